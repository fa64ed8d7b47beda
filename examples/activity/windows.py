"""A convolutional network for windows of a smartwatch, [B, 6, 128]: four convolutions and the mean over time."""

from __future__ import annotations

from torch import nn

CHANNELS, EXERCISES = 6, 7


def build() -> nn.Module:
    """The model that fleet.toml names."""
    return nn.Sequential(
        nn.Conv1d(CHANNELS, 32, 9, padding=4), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(64, 64, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(64, 128, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, EXERCISES),
    )  # fmt: skip
