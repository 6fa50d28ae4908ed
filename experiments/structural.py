"""Structural attacks: parameters, partitions, heads and hyper-parameters, by equations and not by training.

    python -m experiments.structural                                # about 5 minutes on 2 CPU cores
    python -m experiments.structural --only linear trees            # half a minute

Victims of scikit-learn on the data that it ships (`pip install 'pp-jax[detection]'`), and the head of a LeNet on MNIST.
Two tables: what each attack costs and how exact it is, beside what was published; and what defenses do to the attack on
the head. Expected: linear models exact to 1e-6 by d + 1 queries, trees with no wrong response, hyper-parameters within
1 %, the head with all labels, 57 % of them under MAD (docs/results/structural.md). Writes `structural.md` and
`structural_head.md` into `runs/structural`.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args

import tyro

from experiments import common
from experiments.victims import VictimOptions
from pp_jax._command import command

Part = Literal["linear", "network", "trees", "labels", "hyperparameters", "head", "defenses"]


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Which attacks, and how large."""

    victim: VictimOptions = dataclasses.field(default_factory=lambda: VictimOptions(epochs=2, train_size=20_000))
    only: tuple[Part, ...] = get_args(Part)
    """Which rows."""
    network_queries: tuple[int, ...] = (2225, 4450)
    """Queries for the network with one hidden layer."""
    network_features: int = 105
    """Its inputs; published: 105."""
    network_hidden: int = 20
    """Its hidden units; published: 20."""
    network_steps: int = 60
    """Of the optimiser."""
    pool_size: int = 5000
    """Images of the victim's test set that the attacker on the head draws its queries from."""
    judges: int = 2000
    """Other images of it, that the stolen head is judged on."""
    fit_steps: int = 150
    """Of L-BFGS, for the attacker on the head that fits."""
    folder: str = "structural"
    """Where below `runs` the tables go."""


class Row(NamedTuple):
    """One attack on one victim.

    Attributes:
        attack: what it is called.
        victim: what it was tried on.
        queries: what it cost.
        error: how far it is off, and in what.
        agreement: share of labels that are the victim's, on uniform inputs and on data; None where there are none.
        published: the counterpart.
    """

    attack: str
    victim: str
    queries: int
    error: str
    agreement: tuple[float, float] | None
    published: str


def scaled(name: str) -> tuple[Any, Any]:
    """A data set that scikit-learn ships, features in [0, 1], and its labels."""
    import numpy as np

    try:
        from sklearn import datasets
    except ImportError as error:
        raise ValueError("the victims need scikit-learn: pip install 'pp-jax[detection]'") from error
    features, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    features = features - features.min(axis=0)
    return (features / np.maximum(features.max(axis=0), 1e-9)).astype(np.float32).astype(np.float64), labels


def generated(features: int) -> tuple[Any, Any]:
    """Five classes with so many features: the shape of the paper's data set, which is not shipped."""
    import numpy as np
    from sklearn.datasets import make_classification

    informative = max(4, features * 3 // 10)
    rows, labels = make_classification(
        4000, features, n_informative=informative, n_classes=5, random_state=0, class_sep=2.0
    )
    rows = rows - rows.min(axis=0)
    return rows / np.maximum(rows.max(axis=0), 1e-9), labels


def uniform(features: int) -> Any:
    """Uniform inputs, on which agreement is judged beside the data."""
    import numpy as np

    return np.random.default_rng(1).random((5000, features), np.float32).astype(np.float64)


def judged(ours: Callable[[Any], Any], theirs: Callable[[Any], Any], rows: Any) -> tuple[tuple[float, float], float]:
    """Agreement of labels on uniform inputs and on data, and the largest difference of the responses."""
    import numpy as np

    agreements, worst = [], 0.0
    for inputs in (uniform(rows.shape[1]), rows):
        one, other = np.asarray(ours(inputs)), np.asarray(theirs(inputs))
        worst = max(worst, float(np.abs(one - other).max()))
        first, second = (each.argmax(axis=1) if each.ndim == 2 else each for each in (one, other))
        agreements.append(float(np.mean(first == second)))
    return (agreements[0], agreements[1]), worst


def linear(config: Config, key: Any) -> Iterable[Row]:
    """Logistic and softmax regression from d + 1 queries."""
    from sklearn.linear_model import LogisticRegression

    from pp_jax.attacks import structural

    published = "αK(d + 1) = 265, 530 queries: 99.96, 100 % (softmax, d = 105)"
    for name in ("breast_cancer", "digits", "generated"):
        rows, labels = generated(105) if name == "generated" else scaled(name)
        model = LogisticRegression(max_iter=5000).fit(rows, labels)
        stolen = structural.solve_linear(key, structural.ScikitAPI(model), features=rows.shape[1])
        agreement, worst = judged(stolen.model.posteriors, model.predict_proba, rows)
        kind = f"softmax, K = {len(model.classes_)}" if len(model.classes_) > 2 else "logistic"
        victim = f"{kind}, d = {rows.shape[1]} ({name})"
        yield Row("equation solving", victim, stolen.queries, f"{worst:.0e} in y", agreement, published)


def network(config: Config, key: Any) -> Iterable[Row]:
    """A network with one hidden layer."""
    from sklearn.neural_network import MLPClassifier

    from pp_jax.attacks import structural

    published = {2225: "98.68 % data, 97.23 % uniform", 4450: "99.89 % data, 99.82 % uniform"}
    rows, labels = generated(config.network_features)
    model = MLPClassifier((config.network_hidden,), activation="tanh", max_iter=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it converges: meant so
        model.fit(rows, labels)
    for queries in config.network_queries:
        stolen = structural.solve_hidden_layer(
            key,
            structural.ScikitAPI(model),
            features=config.network_features,
            hidden=config.network_hidden,
            classes=5,
            budget=queries,
            restarts=1,
            steps=config.network_steps,
        )
        agreement, worst = judged(stolen.model.posteriors, model.predict_proba, rows)
        count = structural.unknowns(config.network_features, config.network_hidden, 5)
        victim = f"one hidden layer, {count} unknowns"
        error = f"{worst:.0e} in y, residual {stolen.model.residual:.0e}"
        yield Row("equation solving", victim, stolen.queries, error, agreement, published.get(queries, "–"))


def trees(config: Config, key: Any) -> Iterable[Row]:
    """Path finding, bottom-up and top-down."""
    from sklearn.tree import DecisionTreeClassifier

    from pp_jax.attacks import structural

    published = "BigML, other trees: 1150 (German Credits), 4013 (Steak Survey), all of the tree"
    rows, labels = scaled("digits")
    width = rows.shape[1]
    for leaves in (10, 40):
        model = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0).fit(rows, labels)
        for top_down in (False, True):
            api = structural.TreeAPI(model, incomplete=top_down)
            if top_down:
                stolen = structural.find_paths_top_down(api, features=width, budget=1_000_000)
            else:
                stolen = structural.find_paths(key, api, features=width, budget=1_000_000)
            agreement, worst = judged(stolen.model, functools.partial(_asked, api), rows)
            name = "path finding, " + ("top-down" if top_down else "bottom-up")
            victim = f"tree, {model.get_n_leaves()} leaves, d = {width} (digits)"
            error = f"{worst:.0e} in y, {len(stolen.model)} leaves"
            yield Row(name, victim, stolen.queries, error, agreement, published)


def labels_alone(config: Config, key: Any) -> Iterable[Row]:
    """Half-spaces, linear models and trees from labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    from pp_jax.attacks import structural

    for name in ("breast_cancer", "wine"):
        rows, labels = scaled(name)
        width, classes = rows.shape[1], int(labels.max()) + 1
        model = LogisticRegression(max_iter=5000).fit(rows, labels)
        api = structural.ScikitAPI(model, labels_only=True)
        stolen = structural.learn_linear(key, api, features=width, classes=classes, budget=1_000_000)
        agreement, _ = judged(functools.partial(_labels, stolen.model), model.predict, rows)
        kind = "half-space" if classes == 2 else f"linear, K = {classes}"
        error = f"{1 - agreement[1]:.1%} of labels"
        published = "order d log(1/precision) for half-spaces"
        yield Row("labels, bisection", f"{kind}, d = {width} ({name})", stolen.queries, error, agreement, published)
    for name in ("wine", "breast_cancer"):
        rows, labels = scaled(name)
        model = DecisionTreeClassifier(max_leaf_nodes=40, random_state=0).fit(rows, labels)
        api = structural.ScikitAPI(model, labels_only=True)
        found = structural.learn_tree(key, api, features=rows.shape[1], budget=1_000_000, samples=256)
        agreement, _ = judged(found.model, functools.partial(_asked, api), rows)
        victim = f"tree, {model.get_n_leaves()} leaves, d = {rows.shape[1]} ({name})"
        yield Row("labels, bisection", victim, found.queries, f"{1 - agreement[1]:.1%} of labels", agreement, "–")


def hyperparameters(config: Config, key: Any) -> Iterable[Row]:
    """λ of ridge, lasso, logistic regression and support vector machine."""
    import numpy as np
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Lasso, LogisticRegression, Ridge
    from sklearn.svm import SVC

    from pp_jax.attacks import structural
    from pp_jax.attacks.structural import hyperparameters as stealing

    x, y = load_diabetes(return_X_y=True)
    x = x / x.std(axis=0)
    for name, alphas in (("ridge", (0.1, 1.0, 100.0)), ("lasso", (0.01, 0.1, 1.0))):
        errors = []
        for alpha in alphas:
            kind, truth = (Ridge, alpha) if name == "ridge" else (Lasso, alpha * 2 * len(x))
            model = kind(alpha=alpha, tol=1e-8, max_iter=100_000).fit(x, y)
            found = getattr(stealing, name)(x, y, model.coef_, bias=float(model.intercept_))
            errors.append(abs(found.value / truth - 1))
        yield _relative(f"{name} (diabetes)", 0, errors)
    rows, labels = scaled("breast_cancer")
    errors, queries = [], 0
    for penalty in (0.1, 1.0, 10.0):
        model = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(rows, labels)
        stolen = structural.solve_linear(key, structural.ScikitAPI(model), features=rows.shape[1])
        weights = stolen.model.weights[1] - stolen.model.weights[0]
        found = stealing.logistic(rows, labels, weights, bias=float(np.diff(stolen.model.bias)[0]))
        errors.append(abs(found.value / penalty - 1))
        queries = stolen.queries
    yield _relative("logistic, of the stolen weights (breast_cancer)", queries, errors)
    errors = []
    for penalty in (0.1, 1.0, 10.0):
        machine = SVC(kernel="linear", C=1 / penalty, tol=1e-8).fit(rows, labels)
        found = stealing.svm(rows, labels, machine.coef_, bias=float(machine.intercept_[0]))
        errors.append(abs(found.value / penalty - 1))
    yield _relative("SVM, hinge (breast_cancer)", 0, errors)


def _relative(victim: str, queries: int, errors: list[float]) -> Row:
    """The worst of three hyper-parameters."""
    error = f"{max(errors):.0e} of λ, worst of {len(errors)}"
    return Row("hyper-parameter", victim, queries, error, None, "“accurately”, from the weights")


def _labels(model: Any, rows: Any) -> Any:
    """The classes of a linear model."""
    return model.logits(rows).argmax(axis=1)


def _asked(api: Any, rows: Any) -> Any:
    """What an API responds to feature vectors."""
    return api(rows[:, None, None, :])


def head(config: Config, key: Any) -> Iterable[Row]:
    """The last layer of the image victim."""
    grey = Grey.made(config)
    stolen = grey.steal(key, grey.box(None))
    agreement = grey.judge(stolen.model)[0]
    victim = f"head of {config.victim.model}, d = {grey.width} ({config.victim.dataset})"
    error = f"{grey.difference(stolen.model):.0e} in y"
    yield Row("grey-box head", victim, stolen.queries, error, (float("nan"), agreement), "2d in-distribution queries")


@dataclasses.dataclass(frozen=True)
class Grey:
    """A victim whose encoder is public.

    Attributes:
        victim: with network and parameters.
        pool: the attacker's images, of the victim's distribution.
        test: the images that judge, with their labels.
        encode: the encoder, of a batch.
    """

    victim: Any
    pool: Any
    test: tuple[Any, Any]
    encode: Callable[[Any], Any]

    @classmethod
    def made(cls, config: Config) -> "Grey":
        """Of the options: the pool and the judging images are parts of the victim's test set."""
        victim, test = config.trained(), config.test()
        pool, rest = test.images[: config.pool_size], slice(config.pool_size, config.pool_size + config.judges)
        return cls(victim, pool, (test.images[rest], test.labels[rest]), encoder(victim.network, victim.params))

    @property
    def width(self) -> int:
        """The number of features, d."""
        return int(self.encode(self.pool[:1]).shape[1])

    def box(self, defense: Any) -> Any:
        """The victim behind a defense."""
        import jax

        from pp_jax import BlackBox, chain

        return BlackBox(
            self.victim.network, self.victim.params, chain() if defense is None else defense, jax.random.key(1), 256
        )

    def steal(self, key: Any, box: Any, *, fit_steps: int = 0) -> Any:
        """The head, by 2d queries; fitted in so many steps, or by least squares."""
        from pp_jax.attacks import structural

        budget = min(2 * self.width, len(self.pool))
        return structural.steal_head(
            key, box.api(), self.encode, self.pool, budget=budget, minimum_norm=True, fit_steps=fit_steps
        )

    def judge(self, model: Any) -> tuple[float, float]:
        """Agreement with the victim and accuracy of a stolen head."""
        from pp_jax import metrics

        posteriors = model.posteriors(self.encode(self.test[0]))
        return metrics.agreement(posteriors, self.clean), metrics.accuracy(posteriors, self.test[1])

    def difference(self, model: Any) -> float:
        """The largest difference of posteriors."""
        import numpy as np

        return float(np.abs(model.posteriors(self.encode(self.test[0])) - self.clean).max())

    @functools.cached_property
    def clean(self) -> Any:
        """The victim's posteriors of the images that judge."""
        from pp_jax import metrics

        return metrics.predict(self.victim.network, self.victim.params, self.test[0])


def encoder(network: Any, params: Any) -> Callable[[Any], Any]:
    """The public part of a network, of a batch of images."""
    import jax
    import numpy as np

    encode = jax.jit(jax.vmap(network.features, (None, 0)))
    return lambda images: np.concatenate([encode(params, images[i : i + 500]) for i in range(0, len(images), 500)])


def defended(config: Config, key: Any) -> Any:
    """The attack on the head under defenses: least squares, and a fit by an attacker who knows of them."""
    import jax
    import numpy as np

    from pp_jax import MAD, Rounding, Top1, metrics, oracle, solvers
    from pp_jax.results.tables import Table

    grey = Grey.made(config)
    network, shape = grey.victim.network, grey.pool.shape[1:]
    surrogate = network.init(jax.random.key(2), shape)
    ball = solvers.LineSearch(oracle.random_vertex)
    lines = []
    for label, defense in (
        ("none", None),
        *((f"rounding, {digits} decimals", Rounding(digits)) for digits in (4, 2, 1)),
        *((f"random in the ball, ε = {e:g}", MAD(network, surrogate, e, solver=ball)) for e in (0.01, 0.1, 0.99)),
        *((f"MAD, ε = {e:g}", MAD(network, surrogate, e)) for e in (0.01, 0.1, 0.99)),
        ("MAD-argmax, ε = 0.99", MAD.argmax_preserving(network, surrogate, 0.99)),
        ("label alone", Top1()),
    ):
        box = grey.box(defense)
        answers, audit = box(grey.test[0])
        moved = float(np.abs(np.asarray(answers) - np.asarray(audit.probs)).sum(axis=1).mean())
        cells = [label, f"{moved:.2g}", f"{100 * metrics.accuracy(answers, grey.test[1]):.1f}"]
        for steps in (0, config.fit_steps):
            agreement, accuracy = grey.judge(grey.steal(key, box, fit_steps=steps).model)
            cells += [f"{100 * agreement:.1f}", f"{100 * accuracy:.1f}"]
        lines.append(cells)
    headings = ("defense", "mean L1", "defender %", "LS agrees %", "LS accuracy %", "fit agrees %", "fit accuracy %")
    queries = min(2 * grey.width, len(grey.pool))
    note = (
        f"Head of {config.victim.model} on {config.victim.dataset}, d = {grey.width}, {queries} in-distribution "
        "queries; agreement with the clean victim and accuracy on other images. LS: least squares on "
        f"log-ratios; fit: maximum likelihood. {machine()}"
    )
    return Table("What defenses do to the attack on the head", headings, lines, note)


def machine() -> str:
    """Where this was computed."""
    from importlib.metadata import version

    from pp_jax.results.records.provenance import environment

    found = environment()
    return (
        f"Computed with Python {found['versions']['python']}, jax {found['versions']['jax']}, scikit-learn "
        f"{version('scikit-learn')}, on {found['device_count']} × {found['device']} ({found['cpu_count']} CPU cores)."
    )


PARTS: dict[Part, Callable[[Config, Any], Iterable[Row]]] = {
    "linear": linear,
    "network": network,
    "trees": trees,
    "labels": labels_alone,
    "hyperparameters": hyperparameters,
    "head": head,
}


def run(config: Config) -> Any:
    """The table of all attacks."""
    import jax

    from pp_jax.results.tables import Table

    scaled("iris")  # first: without scikit-learn there is nothing to steal from
    lines = []
    for part in (part for part in config.only if part in PARTS):
        for row in PARTS[part](config, jax.random.key(config.seeds[0])):
            shares = ["–", "–"] if row.agreement is None else [f"{100 * share:.2f}" for share in row.agreement]
            shares = ["–" if share == "nan" else share for share in shares]
            queries = str(row.queries) if row.queries else "–"
            lines.append([row.attack, row.victim, queries, row.error, *shares, row.published])
    headings = ("attack", "victim", "queries", "error", "agrees, uniform %", "agrees, data %", "published")
    note = "Agreement with the victim's labels. No queries: the attack starts from the learned weights. " + machine()
    return Table("Structural attacks", headings, lines, note, hidden=("attack", "agrees, uniform %", "published"))


@command()
def main() -> None:
    """Command line."""
    import jax

    config = tyro.cli(Config, description=__doc__)
    folder = config.runs / config.folder
    if set(config.only) - {"defenses"}:
        common.show(lambda: run(config), folder / "structural.md")
    if "defenses" in config.only:
        common.show(lambda: defended(config, jax.random.key(config.seeds[0])), folder / "structural_head.md")


if __name__ == "__main__":
    main()
