"""The study of CIFAR-10, or of other labelled images: what a classifier knows, and what is none of its classes."""
