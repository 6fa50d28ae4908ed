"""Attackers who want the victim's robustness as well: an adversarially trained victim, stolen with and without it.

    python -m experiments.robustness --preset mnist_notmnist --attack.budget 2000      # about 10 minutes on 2 CPU cores

Two victims are trained on the same images, one as usual, one on the adversarial examples of each batch (PGD). Each is
stolen, without a defense, by an attacker that trains on the responses as they are, and by one that trains on
adversarial examples of its queries with these responses. The table shows of everybody the test accuracy, and the
accuracy on the adversarial examples that are made on that same network. Writes a record per run and `robustness.md`
into `runs/robustness`. A killed run goes on where it stopped.
"""

import dataclasses
from typing import Any

from experiments import common, presets, victims
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Two victims × two attackers."""

    preset: presets.Name | None = None
    """Where the other options start: see `python -m experiments.presets`."""
    radius: float = 0.1
    """L∞ radius of all adversarial examples, in pixel units."""
    steps: int = 5
    """Of PGD in training."""
    judging_steps: int = 20
    """Of PGD in judging."""
    train_size: int = 20_000
    """Training images of the victims."""
    judged: int = 500
    """Test images of which adversarial examples are made, the first ones."""
    folder: str = "robustness"
    """Where below `runs` the records and the table go."""

    def loss(self) -> Any:
        """Of whoever trains on adversarial examples."""
        from pp_jax.attacks.evasion import PGD, AdversarialCrossEntropy

        return AdversarialCrossEntropy(PGD(self.radius, steps=self.steps))


def victim(config: Config, *, robust: bool) -> Any:
    """A victim, trained, or found again in the folder."""
    import jax

    from pp_jax import checkpoints, data, records, training
    from pp_jax.evaluation import Victim
    from pp_jax.results.identity import describe

    train = data.load(config.victim.dataset, "train", data_dir=config.data_dir).take(config.train_size)
    network = victims.network_for(config.victim.model, train.num_classes, train.image_shape)
    loss = config.loss() if robust else training.losses.SUPERVISED
    settings = {**config.victim.settings(), "train_size": config.train_size, "loss": describe(loss)}
    path = config.runs / config.folder / "victims" / f"{records.key(settings)}.safetensors"
    recipe, key = config.victim.recipe(), jax.random.key(config.victim.seed)
    if path.exists():
        params, _ = checkpoints.load(path)
    else:
        params = training.fit(key, network, train.images, train.labels, recipe, loss=loss)
        checkpoints.save(path, params, metadata=settings)
    return Victim(network, params, train.images, train.labels, recipe, config.victim.dataset, settings)


def judged(config: Config, network: Any, params: Any) -> list[str]:
    """Accuracy in % on all test images, and on the adversarial examples of the first ones."""
    import jax

    from pp_jax import metrics
    from pp_jax.attacks.evasion import PGD, craft

    test = config.test()
    images, labels = test.images[: config.judged], test.labels[: config.judged]
    rule = PGD(config.radius, steps=config.judging_steps)
    adversarial = craft(jax.random.key(config.seeds[0]), rule, network, params, images, labels)
    pairs = (test.images, test.labels), (adversarial, labels)
    return [f"{100 * metrics.accuracy(metrics.predict(network, params, x), y):.1f}" for x, y in pairs]


def run(config: Config) -> Any:
    """Train and steal what is missing; the table."""
    from pp_jax import evaluation
    from pp_jax.evaluation import Attacker, Learner
    from pp_jax.evaluation.attackers import PLAIN
    from pp_jax.results.tables import Table, provenance

    if len(config.seeds) != 1:
        raise ValueError(f"seeds is {config.seeds}: must be one seed")
    tried = (PLAIN, Attacker("adversarial training", learner=Learner(config.loss())))
    pool, network, recipe = config.pool(), config.network(), config.attack.recipe()
    evaluation.check_budget(config.attack.budget, pool, tried)
    rows, behind = [], []
    for name, robust in (("as usual", False), ("adversarially", True)):
        trained = victim(config, robust=robust)
        rows.append([name, "—", *judged(config, trained.network, trained.params)])
        report = evaluation.evaluate(
            trained, [], pool=pool, test=config.test(), budget=config.attack.budget, attackers=tried,
            seeds=config.seeds, network=network, recipe=recipe, runs_folder=config.runs / config.folder,
            machines=config.machines.machines(), keep_models=True,
        )  # fmt: skip
        for record in report.rows[0].records:
            model = evaluation.stolen_model(record, network)
            rows.append([name, record.config["attack"]["name"], *judged(config, *model)])
            behind.append(record)
    note = (
        f"{config.train_size} training images of the victims, {config.attack.budget} queries; PGD L∞ of radius "
        f"{config.radius:g}: {config.steps} steps in training, {config.judging_steps} in judging, on {config.judged} "
        f"test images. Seed {config.seeds[0]}. " + provenance(behind)
    )
    title = f"Stolen robustness, {config.victim.dataset} ← {config.attack.pool}"
    return Table(title, ("victim trained", "stolen by", "accuracy", f"under PGD {config.radius:g}"), rows, note)


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    common.show(lambda: run(config), config.runs / config.folder / "robustness.md")


if __name__ == "__main__":
    main()
