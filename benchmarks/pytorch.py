"""Contender: PyTorch with the same layers, `python pytorch.py float32|bfloat16 eager|compile`.

Written the way PyTorch is fast: channels last, autocast, fused Adam, and no gradients for the
discriminator's weights while the generator learns.
"""

import sys
import time
from collections.abc import Callable

import torch
from contest import serve
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

BATCH_SIZE = 256
LATENT_DIM = 100
STEPS = 8


class Generator(nn.Module):
    """256-128-64 channels with 5 x 5 kernels."""

    def __init__(self) -> None:
        """Create the layers."""
        super().__init__()
        # Padding 2 and one more pixel at the far ends: "same" for kernels of 5 and stride 2.
        halves = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1, "bias": False}
        self.dense = nn.Sequential(
            nn.Linear(LATENT_DIM, 4 * 4 * 256, bias=False),
            nn.BatchNorm1d(4 * 4 * 256),
            nn.LeakyReLU(0.3),
        )
        self.convolutions = nn.Sequential(
            nn.ConvTranspose2d(256, 128, **halves),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(128, 64, **halves),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(64, 3, **halves),
            nn.Tanh(),
        )

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Draw images (N, 3, 32, 32)."""
        maps = self.dense(noise).view(-1, 256, 4, 4)
        return self.convolutions(maps.contiguous(memory_format=torch.channels_last))


def build_discriminator() -> nn.Module:
    """Return 64-128 channels with 5 x 5 kernels and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 5, stride=2, padding=2),
        nn.LeakyReLU(0.3),
        nn.Dropout(0.3),
        nn.Conv2d(64, 128, 5, stride=2, padding=2),
        nn.LeakyReLU(0.3),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(128 * 8 * 8, 1),
    )


def make_step(bfloat16: bool, compiled: bool) -> Callable[[torch.Tensor], float]:
    """Return the training step."""
    networks = [Generator(), build_discriminator()]
    networks = [network.to(memory_format=torch.channels_last) for network in networks]
    g_optimizer, d_optimizer = (
        torch.optim.Adam(network.parameters(), lr=1e-4, fused=True) for network in networks
    )
    generator, discriminator = map(torch.compile, networks) if compiled else networks

    def loss_of(logits: torch.Tensor, label: float) -> torch.Tensor:
        logits = logits.float()
        return binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def train_step(images: torch.Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            fakes = generator(torch.randn(BATCH_SIZE, LATENT_DIM))
            real_loss = loss_of(discriminator(images), 1.0)
            d_loss = real_loss + loss_of(discriminator(fakes.detach()), 0.0)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        networks[1].requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            g_loss = loss_of(discriminator(fakes), 1.0)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        networks[1].requires_grad_(True)
        return g_loss.item()

    return train_step


def main() -> None:
    """Build, then wait for requests."""
    precision, mode = sys.argv[1:]
    train_step = make_step(precision == "bfloat16", mode == "compile")
    images = (torch.rand(BATCH_SIZE, 3, 32, 32) * 2 - 1).to(memory_format=torch.channels_last)

    def run_steps() -> float:
        started = time.perf_counter()
        for _ in range(STEPS):
            train_step(images)
        return time.perf_counter() - started

    serve({"steps": run_steps}, {"steps": STEPS, "version": torch.__version__})


if __name__ == "__main__":
    main()
