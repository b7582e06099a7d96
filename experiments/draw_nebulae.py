"""Draw nebulae of 64 x 64 pixels, a thousand in each of three classes, in a folder `nebulae`."""

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np

Y, X = np.mgrid[-1:1:64j, -1:1:64j]
FREQUENCY = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)) + 0.01


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return one nebula as uint8 (64, 64, 3)."""
    # Turbulence: noise whose waves are the stronger the longer they are.
    waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(2, 64, 64))) / FREQUENCY**1.9).real
    gas, dust = 1 / (1 + np.exp(1.6 * (waves.mean((1, 2), keepdims=True) - waves) / waves.std()))
    x, y, turn, squash, size = rng.uniform((-0.25, -0.25, 0, 0.55, 0.4), (0.25, 0.25, 3, 1, 0.65))
    around = (X - x + 1j * (Y - y)) * np.exp(1j * turn)
    radius = np.hypot(around.real, around.imag / squash)
    core, disc = np.exp(-((radius / 0.14) ** 2)), np.exp(-((radius / size) ** 2)) * (0.5 + gas)
    if kind == "emission":  # glowing hydrogen behind lanes of dust
        light = 2.5 * gas * (1 - dust) * np.exp(-(radius**2))
        channels = 1.5 * light, 0.7 * light**2, 0.8 * light
    elif kind == "planetary":  # a shell around the star that has shed it
        shell, gas = np.exp(-(((radius - size) / 0.13) ** 2)) * (0.5 + gas), 0.6 * disc
        channels = shell + core**4, 0.35 * shell + gas + core**4, 0.25 * shell + gas + core**4
    else:  # a spiral: arms of young stars around an old core
        disc *= np.cos(np.angle(around) - 2.5 * np.log(radius + 0.08)) ** 4 + 0.15
        channels = 0.6 * disc + core, 0.7 * disc + 0.85 * core, 1.1 * disc + 0.6 * core
    light = np.stack(channels, axis=2) + 0.03
    for left, top, bright in rng.uniform((-1, -1, 0.2), (1, 1, 1.2), (rng.integers(4, 12), 3)):
        light += bright * np.exp(-((X - left) ** 2 + (Y - top) ** 2) / 0.0008)[..., None]
    return (255 * (1 - np.exp(-1.6 * light))).astype(np.uint8)


folder = sys.argv[1] if sys.argv[1:] else "nebulae"
for number, kind in enumerate(("emission", "planetary", "spiral") * 1_000):
    path = Path(folder, kind, f"{number:04d}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, draw(kind, np.random.default_rng(number)))
