"""The published data-free attacks with their settings."""

from typing import Any

import optax

from pp_jax.attacks.data_free.descent import Descent
from pp_jax.attacks.data_free.guides import ZerothOrder
from pp_jax.attacks.data_free.losses import Divergence, HardLabel, LogitDistance
from pp_jax.attacks.data_free.method import DataFree
from pp_jax.attacks.data_free.through_clones import Adversarial, Disagreement, Synthesis
from pp_jax.attacks.jacobian import Substitute
from pp_jax.models.generator import Generator


def dcgan_adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam with β₁ = 0.5, as for a DCGAN."""
    return optax.adam(rate, b1=0.5)


def maze(network: Substitute, budget: int, **changes: Any) -> DataFree:
    """MAZE: maximise KL(victim ‖ clone) by zeroth-order gradients in m = 10 directions; the clone minimises it.

    Published: B = 128, N_G = 1, N_C = 5, N_R = 10, μ = 1e-3, noise of 100 entries; SGD with momentum 0.9, weight decay
    5e-4 and a cosine schedule for the clone (0.1) and the generator (1e-4; 1e-3 in the example for FashionMNIST);
    5 million queries for FashionMNIST, 30 million for CIFAR-10.

    Args:
        network: the clone's architecture.
        budget: queries.
        **changes: other values for fields of `DataFree`.

    Source: Kariyappa, Prakash, Qureshi, "MAZE", CVPR 2021, and the authors' code.
    """
    given: dict[str, Any] = {
        "guide": ZerothOrder(Divergence(), directions=10),
        "loss": Divergence(),
        "learning": Descent(0.1, cosine=True),
        "making": Descent(1e-4, cosine=True),
        "generator": Generator(latent=100, last_norm="learned"),
        "batch_size": 128,
        "clone_steps": 5,
        "replay_steps": 10,
    }
    return DataFree(network, budget, **given | changes)


def dfme(network: Substitute, budget: int, **changes: Any) -> DataFree:
    """DFME: maximise the L1 distance of pseudo-logits by forward differences in one direction; the clone minimises it.

    Published: B = 256, generator/clone steps 1/5, μ = 1e-3, noise of 256 entries; clone SGD 0.1, momentum 0.9, weight
    decay 5e-4, generator Adam 1e-4, both × 0.3 at 10, 30 and 50 % of 20 million queries (CIFAR-10; 2 million for SVHN).
    There a round asks about a batch of its own for the generator, and so costs 7 batches; here it costs 6.

    Args:
        network: the clone's architecture.
        budget: queries.
        **changes: other values for fields of `DataFree`.

    Source: Truong, Maini, Walls, Papernot, "Data-Free Model Extraction", CVPR 2021.
    """
    falls = (0.1, 0.3, 0.5)
    given: dict[str, Any] = {
        "guide": ZerothOrder(LogitDistance(), directions=1),
        "loss": LogitDistance(),
        "learning": Descent(0.1, falls=falls),
        "making": Descent(1e-4, weight_decay=0, rule=optax.adam, falls=falls),
        "generator": Generator(),
    }
    return DataFree(network, budget, **given | changes)


def dfms_hl(network: Substitute, budget: int, **changes: Any) -> DataFree:
    """DFMS-HL: hard labels; images that a discriminator takes for drawn shapes, with all classes among them.

    Published: generator and discriminator Adam 2e-4 with β₁ = 0.5, λ_div = 500 (10 classes) or 100 (100), 8 million
    queries for CIFAR-10; from the authors' code noise of 100 entries, B = 64 and the clone's rate 0.01. The clone's
    momentum, weight decay and schedule are assumed to be those of MAZE. The published attack trains generator and clone
    one after the other before they alternate, and has a DCGAN with transposed convolutions; here they alternate from
    the start.

    Args:
        network: the clone's architecture.
        budget: queries.
        **changes: other values for fields of `DataFree`.

    Source: Sanyal, Addepalli, Babu, "Towards Data-Free Model Stealing in a Hard Label Setting", CVPR 2022.
    """
    given: dict[str, Any] = {
        "guide": Adversarial(),
        "loss": HardLabel(),
        "learning": Descent(0.01, cosine=True),
        "making": Descent(2e-4, weight_decay=0, rule=dcgan_adam),
        "generator": Generator(latent=100, last_norm="none"),
        "batch_size": 64,
        "clone_steps": 1,
    }
    return DataFree(network, budget, **given | changes)


def disguide(network: Substitute, budget: int, *, hard_labels: bool = False, **changes: Any) -> DataFree:
    """DisGUIDE: two clones, and a generator that makes what they disagree about; no query goes to the generator.

    Published: B = 256, one clone step on new images and 3 on remembered ones, a memory of a million, λ_div = 0.2
    (CIFAR-10) or 0.04 (CIFAR-100); clones SGD 0.03, momentum 0.9, weight decay 5e-4, generator Adam 1e-4, both × 0.3 at
    40 and 80 % of 20 million queries (10 million for CIFAR-100).

    Args:
        network: the clones' architecture.
        budget: queries.
        hard_labels: learn from the argmax of the responses, in place of pseudo-logits.
        **changes: other values for fields of `DataFree`.

    Source: Rosenthal, Enouen, Pham, Tan, "DisGUIDE", AAAI 2023, and the authors' code.
    """
    falls = (0.4, 0.8)
    given: dict[str, Any] = {
        "guide": Disagreement(),
        "loss": HardLabel() if hard_labels else LogitDistance(),
        "learning": Descent(0.03, falls=falls),
        "making": Descent(1e-4, weight_decay=0, rule=optax.adam, falls=falls),
        "generator": Generator(),
        "clones": 2,
        "clone_steps": 1,
        "replay_steps": 3,
    }
    return DataFree(network, budget, **given | changes)


def ideal(network: Substitute, budget: int, **changes: Any) -> DataFree:
    """IDEAL: synthesise what the clone is sure of, ask about it once, and train on all that was ever answered.

    Published: B = 250, 100 rounds (25 000 queries) for MNIST, 400 for CIFAR-10, 30 or 5 steps of synthesis by Adam 1e-3
    with β₁ = 0.5, noise of 256 entries; clone SGD 0.01, momentum 0.9, weight decay 5e-4. There a round trains for an
    epoch on all images so far, so r steps in round r; here for as many in every round, half the number of rounds.

    Args:
        network: the clone's architecture.
        budget: queries.
        **changes: other values for fields of `DataFree`.

    Source: Zhang, Chen, Lyu, "IDEAL", ICLR 2023, and the authors' code.
    """
    size = changes.get("batch_size", 250)
    given: dict[str, Any] = {
        "guide": Synthesis(),
        "loss": HardLabel(),
        "learning": Descent(0.01),
        "making": Descent(1e-3, weight_decay=0, rule=dcgan_adam),
        "generator": Generator(last_norm="none"),
        "batch_size": size,
        "clone_steps": 1,
        "replay_steps": max(1, budget // size // 2),
    }
    return DataFree(network, budget, **given | changes)
