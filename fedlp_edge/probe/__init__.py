"""This package finds out what a device can afford: from the machine, its control group, and the device's profile.

It does not import PyTorch.
"""
