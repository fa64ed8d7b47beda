"""The installation of models on this device: versions, exams, the switch, and the way back."""
