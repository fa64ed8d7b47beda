"""What a device can bear: the machine, its control group, and the profile that caps it. No torch."""
