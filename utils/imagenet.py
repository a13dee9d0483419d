"""Mean and standard deviation of ImageNet pixels, with which the backbones were trained."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # red, green, blue, for pixels from 0 to 1
IMAGENET_STD = (0.229, 0.224, 0.225)
