"""The state of a run: what is trained, and what a checkpoint holds."""

from dcgan.devices import with_loss_scaling
from dcgan.quiet import keras, tf


class GAN:
    """Two networks, their optimizers, and all else that has to survive an interruption.

    A further network may be an attribute of one of the two, such as `generator.encoder`: Keras then
    trains it with that network, and it is kept in the same checkpoint (but has no average).

    Attributes:
        generator: maps noise (N, latent_dim), or noise and one-hot labels, to images in [-1, 1].
        discriminator: maps images, or whatever the training step shows it, to logits.
        ema_generator: generates samples: with `ema` a copy whose weights are the exponential moving
            average of the generator's, else the generator itself.
        g_optimizer, d_optimizer: those given, scaling the loss under mixed_float16.
        epoch: int64 variable, the number of epochs that are done.
        checkpoint: all this and the random state, but no loss scales: it fits every precision.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        g_optimizer: keras.optimizers.Optimizer,
        d_optimizer: keras.optimizers.Optimizer,
        ema: bool = False,
    ) -> None:
        """Take two networks and an optimizer for each; none of them may serve another GAN."""
        self.generator = generator
        self.discriminator = discriminator
        self.ema_generator = generator
        if ema:
            self.ema_generator = keras.models.clone_model(generator)
            self.ema_generator.set_weights(generator.get_weights())
        self.g_optimizer = with_loss_scaling(g_optimizer)
        self.d_optimizer = with_loss_scaling(d_optimizer)
        # Adam's moments exist only after that, and a restore passes over what does not exist.
        self.g_optimizer.build(generator.trainable_variables)
        self.d_optimizer.build(discriminator.trainable_variables)
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        # A checkpoint names its variables by these keywords: another keyword, another format.
        self.checkpoint = tf.train.Checkpoint(
            generator=generator,
            discriminator=discriminator,
            sampler=self.ema_generator,
            g_optimizer=g_optimizer,
            d_optimizer=d_optimizer,
            dropout_seeds=[*_random_state(discriminator), *_random_state(generator)],
            epoch=self.epoch,
        )
        # Made on first use, which in a cluster takes all workers; a restore looks for it.
        _ = self.checkpoint.save_counter

    @property
    def step(self) -> tf.Tensor:
        """The number of training steps so far, an integer scalar."""
        return tf.convert_to_tensor(self.checkpoint.g_optimizer.iterations)

    @property
    def conditional(self) -> bool:
        """Whether the generator takes labels beside the noise."""
        return len(self.generator.inputs) > 1

    @property
    def variables(self) -> list[tf.Variable]:
        """Every variable of a checkpoint, once, without TensorFlow's own counter of saves."""
        parts = self.checkpoint
        networks = parts.generator, parts.discriminator, parts.sampler
        held = [weight for network in networks for weight in network.weights]
        held += [*parts.g_optimizer.variables, *parts.d_optimizer.variables]
        values = [*(variable.value for variable in held), *parts.dropout_seeds, self.epoch]
        return list({id(value): value for value in values}.values())


def _random_state(network: keras.Model) -> list[tf.Variable]:
    """Return the seeds of a network's random layers, nested ones too, which are no weights."""
    weights = {id(weight) for weight in network.weights}
    return [variable.value for variable in network.variables if id(variable) not in weights]
