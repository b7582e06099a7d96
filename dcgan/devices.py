"""Precision and devices: what a training step needs beside its idea."""

import inspect
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dcgan.quiet import keras, tf

Metrics = dict[str, tf.Tensor]
Optimizer = keras.optimizers.Optimizer
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
STEP_KEYS = ("g_loss", "d_loss", "real_acc", "fake_acc")


def choose_precision(wanted: str) -> tuple[str, str]:
    """Choose a Keras dtype policy and say why; weights are float32 under each of them.

    "auto" is what the processor computes directly: mixed_bfloat16 on GPUs of compute capability 8.0
    and CPUs with AVX512-BF16 or AMX, mixed_float16 on GPUs of 7.0 to 7.5 such as T4, else float32.
    """
    if wanted != "auto":
        return wanted, "as asked for"
    if gpus := tf.config.list_physical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        weakest = min(detail.get("compute_capability", (0, 0)) for detail in details)
        if weakest >= (8, 0):
            return "mixed_bfloat16", "the GPU computes with bfloat16 directly"
        if weakest >= (7, 0):
            return "mixed_float16", "the GPU has tensor cores for float16, none for bfloat16"
        return "float32", "the GPU has no fast 16-bit arithmetic"
    cpu_information = Path("/proc/cpuinfo")  # on Linux only
    flags = cpu_information.read_text() if cpu_information.exists() else ""
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        return "mixed_bfloat16", "the CPU computes with bfloat16 directly"
    return "float32", "the CPU has no bfloat16 arithmetic of its own"


def choose_strategy() -> tuple[tf.distribute.Strategy, str]:
    """Choose how training is spread over devices, and describe it in a line.

    MultiWorkerMirroredStrategy where the environment variable `TF_CONFIG` describes a cluster,
    MirroredStrategy for several GPUs (else several logical CPUs), otherwise one device. Raises
    ValueError if `TF_CONFIG` is not the description of a cluster, RuntimeError if TensorFlow has
    computed before, so that a cluster cannot be joined.
    """
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        workers = sum(len(addresses) for addresses in cluster.values())
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"the environment variable TF_CONFIG does not describe a cluster ({error}); "
            "unset it to train on this machine alone"
        ) from error
    if workers:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = strategy.cluster_resolver
        place = f"{resolver.task_type} {resolver.task_id} of {workers}"
        return strategy, f"{strategy.num_replicas_in_sync} devices in a cluster, here {place}"
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) > 1:
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        return strategy, f"{len(devices)} devices share each batch"
    return tf.distribute.get_strategy(), "one device"


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Say whether this process writes the files: alone, or as the first worker of a cluster."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def require_same_epoch(epoch: tf.Variable) -> None:
    """Raise RuntimeError unless all workers of a cluster start from the same epoch."""
    strategy = tf.distribute.get_strategy()

    @tf.function
    def add_up() -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(epoch)), axis=None)

    here = int(epoch.numpy())
    if int(add_up()) != here * strategy.num_replicas_in_sync:
        raise RuntimeError(
            f"This worker starts from epoch {here} and another one does not: "
            "OUTPUT_DIR must be a folder that all machines share."
        )


def own_share(rows: tf.Tensor) -> tf.Tensor:
    """Return this device's (N / devices, …) of a whole batch's rows (N, …).

    What is drawn for the whole batch and then shared out does not depend on the number of devices.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return rows
    size = tf.shape(rows)[0] // context.num_replicas_in_sync
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
    return rows[start : start + size]


class _LossScaling(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scaling, which skips a step on all devices if one of them overflows."""

    def check_finite(self, grads: Sequence[tf.Tensor]) -> tf.Tensor:
        """Say whether the gradients of every device are finite."""
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        finite = tf.cast(super().check_finite(grads), tf.int32)
        return tf.distribute.get_replica_context().all_reduce("SUM", finite) == devices


def with_loss_scaling(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer itself, under mixed_float16 wrapped in loss scaling and yet to be built.

    Without a scaled loss, float16 gradients underflow. The scale is found anew after a restart.
    """
    scaled = keras.config.dtype_policy().compute_dtype == "float16"
    return _LossScaling(optimizer) if scaled else optimizer


def apply_gradients(
    optimizer: Optimizer, tape: tf.GradientTape, loss: tf.Tensor, network: keras.Model
) -> None:
    """Improve a network of a GAN by one step of its optimizer; call in a training step.

    `loss` is a scalar on the `tape`, the mean over this device's share of the batch.
    """
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    # Keras sums gradients over the devices, and float16 needs a scaled loss. Both factors enter as
    # the gradient that is handed to the loss, so that the loss on the tape stays the plain one.
    factor = tf.cast(optimizer.scale_loss(1 / devices), loss.dtype)
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(loss, variables, output_gradients=factor), variables)


def compile_step(
    train_step: Callable[..., Metrics], gan: Any, latent_dim: int, seed: int
) -> Callable[..., Metrics]:
    """Compile a training step for the current strategy, which hands each device its share.

    `train_step` maps (gan, real_images, labels, noise) to a dict of one number for each of
    `STEP_KEYS` and any others. It gets a device's share of a batch: real images (N, height, width,
    channels), labels (N,) and noise float32 (N, latent_dim). It trains the `dcgan.gan.GAN` by
    `apply_gradients`; the EMA generator is updated after it. Noise of step k is drawn from
    (seed, k) for the whole batch, so it depends neither on the number of devices nor on
    interruptions.

    Returns a function (real_images, labels) of a whole batch that trains for one step and returns
    those numbers as float32 means over the devices. Raises ValueError for a `train_step` of other
    arguments, and at the first call for one that returns anything else.
    """
    strategy = tf.distribute.get_strategy()
    signature = inspect.signature(train_step)
    try:
        signature.bind("gan", "real_images", "labels", "noise")
    except TypeError:
        raise ValueError(
            f"a training step takes (gan, real_images, labels, noise), yours takes {signature}"
        ) from None
    if tf.__version__.startswith("2.20."):
        # That version's pass fails at LeakyReLU after a bias, is skipped, and says so in red.
        tf.config.optimizer.set_experimental_options({"remapping": False})
    problems = []

    def train_share(real_images: tf.Tensor, labels: tf.Tensor) -> Metrics:
        shape = (strategy.num_replicas_in_sync * tf.shape(real_images)[0], latent_dim)
        noise = own_share(tf.random.stateless_normal(shape, (seed, tf.cast(gan.step, tf.int32))))
        metrics = train_step(gan, real_images, labels, noise)
        problems[:] = _find_problems(metrics)
        if problems:
            raise ValueError
        return {name: tf.cast(value, tf.float32) for name, value in metrics.items()}

    @tf.function
    def step_of_all_devices(real_images: tf.Tensor, labels: tf.Tensor) -> Metrics:
        metrics = strategy.run(train_share, (real_images, labels))
        update_ema(gan)
        return {name: strategy.reduce("MEAN", metrics[name], axis=None) for name in metrics}

    def compiled(real_images: tf.Tensor, labels: tf.Tensor) -> Metrics:
        problems.clear()
        try:
            return step_of_all_devices(real_images, labels)
        except Exception:
            if not problems:
                raise
        # TensorFlow puts its own words before the message of an error in compiled code.
        raise ValueError(problems[0])

    return compiled


@tf.autograph.experimental.do_not_convert
def _find_problems(metrics: Any) -> list[str]:
    """Return a sentence about each way in which a training step's result breaks the contract."""
    keys, kind = ", ".join(STEP_KEYS), type(metrics).__name__
    if not isinstance(metrics, dict):
        return [f"a training step returns a dict with {keys}; yours returns {kind}"]
    if missing := ", ".join(key for key in STEP_KEYS if key not in metrics):
        return [f"a training step returns {keys}; yours lacks {missing}"]
    kinds = {key: _not_a_number(value) for key, value in metrics.items()}
    sentence = "a training step returns one number for each key; yours returns {} for {}"
    return [sentence.format(kind, key) for key, kind in kinds.items() if kind]


def _not_a_number(value: Any) -> str | None:
    """Describe a value that is no scalar number; return None for one that is."""
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        return type(value).__name__
    if tensor.shape.rank != 0:
        return f"a tensor of shape {tensor.shape}"
    return None if tensor.dtype.is_floating or tensor.dtype.is_integer else tensor.dtype.name


def update_ema(gan: Any, decay: float = 0.9999) -> None:
    """Move the weights of the EMA generator toward those of the generator, once a step.

    A moving average generates better images than any one step (Yazıcı et al., "The Unusual
    Effectiveness of Averaging in GAN Training", 2019). Its memory grows to about a ninth of the
    steps so far, until `decay` (0..1, kept a step) limits it. Running statistics are copied.
    """
    if gan.ema_generator is gan.generator:
        return
    step = tf.cast(gan.step, tf.float32)
    kept = tf.minimum(decay, (step + 1) / (step + 10))
    for old, new in zip(gan.ema_generator.weights, gan.generator.weights, strict=True):
        old.assign(kept * old + (1 - kept) * new if new.trainable else new)
