"""Mean and standard deviation of ImageNet's pixels in 0..1, by channel (red, green, blue)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
