"""Networks as files for other runtimes: one module per format, all from one `Program`."""
