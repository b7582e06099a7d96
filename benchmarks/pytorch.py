"""Contender: PyTorch with the same layers, `python pytorch.py float32|bfloat16 eager|compile`.

With channels last, autocast, fused Adam and no needless gradients, on one batch of noise.
"""

import sys

import torch
from contest import serve, timed
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

BATCH_SIZE = 256
LATENT_DIM = 100
STEPS = 8


def build_generator() -> nn.Module:
    """Return 256-128-64 channels with 5 x 5 kernels."""
    # Padding 2 and one more pixel at the far ends: "same" for kernels of 5 and stride 2.
    doubling = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1, "bias": False}
    return nn.Sequential(
        nn.Linear(LATENT_DIM, 4 * 4 * 256, bias=False),
        nn.BatchNorm1d(4 * 4 * 256),
        nn.LeakyReLU(0.3),
        nn.Unflatten(1, (256, 4, 4)),
        nn.ConvTranspose2d(256, 128, **doubling),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(128, 64, **doubling),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(64, 3, **doubling),
        nn.Tanh(),
    ).to(memory_format=torch.channels_last)


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
    ).to(memory_format=torch.channels_last)


def loss_of(logits: torch.Tensor, label: float) -> torch.Tensor:
    """Return the cross-entropy of logits that should all say one label."""
    logits = logits.float()
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def main(precision: str, mode: str) -> None:
    """Build, then wait for requests."""
    networks = build_generator(), build_discriminator()
    g_optimizer, d_optimizer = (
        torch.optim.Adam(network.parameters(), lr=1e-4, fused=True) for network in networks
    )
    generator, discriminator = map(torch.compile, networks) if mode == "compile" else networks
    images = (torch.rand(BATCH_SIZE, 3, 32, 32) * 2 - 1).to(memory_format=torch.channels_last)

    def train_step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            fakes = generator(torch.randn(BATCH_SIZE, LATENT_DIM))
            real_loss = loss_of(discriminator(images), 1.0)
            d_loss = real_loss + loss_of(discriminator(fakes.detach()), 0.0)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        networks[1].requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            g_loss = loss_of(discriminator(fakes), 1.0)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        networks[1].requires_grad_(True)
        return g_loss.item()

    step = timed(lambda: [train_step() for _ in range(STEPS)], STEPS)
    serve({"step": step}, version=torch.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
