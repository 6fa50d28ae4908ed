"""Which answers a thief learns from: all of them, or those that it believes or knows to be true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thieves import recovering

if TYPE_CHECKING:
    from steal import Config
    from thieves.theft import Scene


def lessons(config: Config, at: Scene, images: Any, answers: Any) -> tuple[Any, Any]:
    """What the thief trains on: images, and their targets, (N, K) soft or (N,) classes."""
    learnt = recovering.targets(config, at, images, answers)
    rows = trusted(config, at, images, answers)
    return (images, learnt) if rows is None else (images[rows], learnt[rows])


def trusted(config: Config, at: Scene, images: Any, answers: Any) -> Any:
    """Rows of the answers that the thief learns from; None for all."""
    import jax

    labels = config.attack.labels
    if labels == "balanced":
        return evened(jax.random.fold_in(at.attack_key, 4), answers)
    if labels == "confident":
        return most_certain(answers, share=config.attack.effort.confident_share)
    if labels == "agreeing":
        return most_certain(answers, share=config.attack.effort.agreeing_share)
    if labels == "genuine":
        defense = at.box.defense
        if config.defense.name == "misinformation":
            return unmisled(defense, images, answers)
        return some(~strange(at, images))
    return None


def most_certain(answers: Any, *, share: float) -> Any:
    """Which answers, (N, K), have the largest maxima: rows in the order they were asked in, at least one.

    A defense that spares confident queries, as adaptive misinformation does, leaves these clean; and one that is bound
    to an L1 distance ε cannot change the argmax where the victim's two largest classes are further apart than ε. Means
    over changed copies are certain where the copies' answers agree. Of answers alike, such as labels alone, the first
    are taken.
    """
    import numpy as np

    order = np.argsort(-answers.max(axis=1), kind="stable")
    return np.sort(order[: max(1, round(share * len(answers)))])


def evened(key: Any, answers: Any) -> Any:
    """Rows that are left if every answered class, of (N, K), keeps at most as many as the median class has.

    A network that misinforms may send most of what it garbles to few classes, where true answers are rare then.
    """
    import jax
    import numpy as np

    classes = answers.argmax(axis=1)
    most = max(1, int(np.median(np.bincount(classes, minlength=answers.shape[1]))))
    order = np.asarray(jax.random.permutation(key, len(answers)))
    kept = [order[classes[order] == label][:most] for label in range(answers.shape[1])]
    return np.sort(np.concatenate(kept))


def unmisled(defense: Any, images: Any, answers: Any) -> Any:
    """Rows that adaptive misinformation did not answer with its own network, for a thief who has that network."""
    import numpy as np

    from pp_jax import metrics

    wrong = metrics.predict(defense.logits_fn, defense.params, images)
    return some(np.abs(answers - wrong).sum(axis=1) > 1e-3)


def strange(at: Scene, images: Any) -> Any:
    """Which images do not pass the gate of a keyed swap, (N,), for a thief who is told."""
    import jax
    import jax.numpy as jnp

    from pp_jax import _batching, metrics

    probs = metrics.predict(at.victim.network, at.victim.params, images)
    each = jax.jit(lambda *rows: _batching.each(at.box.defense.strange, 500, *rows))
    return jax.device_get(each(jnp.asarray(probs), jnp.asarray(images)))


def some(kept: Any) -> Any:
    """Rows for which `kept` holds, (N,), or all rows where it holds for none: who trusts nobody learns nothing."""
    import numpy as np

    return np.flatnonzero(kept) if kept.any() else np.arange(len(kept))
