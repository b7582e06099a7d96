"""A drawing of what a training step of a GAN computes."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

GENERATED, REAL, DISCRIMINATOR = "#2b6cb0", "#2f9e6e", "#c8443c"  # colours in all figures


def draw_flow(latent_dim: int, image_shape: Sequence[int]) -> Figure:
    """Draw what a training step of a GAN computes, with the shapes of its arrays."""
    shape = f"\n(N, {', '.join(map(str, image_shape))})"
    axis = Figure(figsize=(7.5, 8.4), dpi=80).add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(0, 11.4))
    axis.axis("off")
    for x, y, color, filled, text in (
        (3, 10.7, GENERATED, False, f"noise\n(N, {latent_dim})"),
        (3, 8.7, GENERATED, True, "generator"),
        (3, 6.7, GENERATED, False, f"generated images{shape}"),
        (7, 6.7, REAL, False, f"real images{shape}"),
        (5, 4.7, DISCRIMINATOR, True, "discriminator"),
        (3, 2.7, GENERATED, False, "logits\n(N, 1)"),
        (7, 2.7, REAL, False, "logits\n(N, 1)"),
        (3, 0.7, GENERATED, True, "generator\nloss"),
        (7, 0.7, DISCRIMINATOR, True, "discriminator\nloss"),
    ):
        left = 1.3 if x == 5 else x - 1.7
        style = {"boxstyle": "round,pad=0,rounding_size=0.2", "ec": color, "lw": 2.5}
        style["fc"], ink = (color, "white") if filled else ("white", "black")
        axis.add_patch(FancyBboxPatch((left, y - 0.5), 2 * (x - left), 1, **style))
        axis.text(x, y, text, ha="center", va="center", fontsize=16, color=ink)
    down = [(3, y, 3, y - 1, GENERATED) for y in (10.2, 8.2, 6.2, 4.2, 2.2)]
    down += [(7, y, 7, y - 1, REAL) for y in (6.2, 4.2, 2.2)] + [(3.7, 2.2, 6, 1.2, GENERATED)]
    head = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "shrinkA": 0, "shrinkB": 0}
    for x, y, to_x, to_y, color in down:
        axis.annotate("", (to_x, to_y), (x, y), arrowprops=head | {"color": color, "lw": 2.5})
    for x, top, side, color in ((1.3, 8.7, -1, GENERATED), (8.7, 4.7, 1, DISCRIMINATOR)):
        away, style = x + 0.8 * side, {"color": color, "lw": 2.5}
        axis.plot([x, away, away, x + 0.3 * side], [0.7, 0.7, top, top], ls="--", **style)
        axis.annotate("", (x, top), (away, top), arrowprops=head | style)
        words = {"rotation": 90, "fontsize": 16, "color": color, "bbox": {"fc": "w", "ec": "w"}}
        axis.text(away, 2.7, "update", ha="center", va="center", **words)
    return axis.figure
