"""`flaxmobile bench`: this library and its peers, side by side on the same machine."""
