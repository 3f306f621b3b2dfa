"""What `compile(loss=…, metrics=…)` was given, matched to the outputs of the model."""

from hornbeam import backend, losses, metrics, ops
from hornbeam.backend import tree


def _name_of(fn):
    return getattr(fn, "name", None) or getattr(fn, "__name__", None) or type(fn).__name__


def _kind(y_true, y_pred):
    """ "binary", "sparse" (integer labels) or "categorical", from the shapes, as Keras decides."""
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    if pred_shape and pred_shape[-1] == 1:
        return "binary"
    if len(true_shape) < len(pred_shape) or (true_shape and true_shape[-1] == 1):
        return "sparse"
    return "categorical"


def get_metric(identifier, y_true, y_pred):
    """The metric for `identifier`; "accuracy" depends on the shapes of targets and outputs."""
    if identifier is None:
        raise ValueError("metrics: expected a metric, got None")
    name = identifier if isinstance(identifier, str) else None
    if name is not None and name.lower() in ("accuracy", "acc"):
        cls = {
            "binary": metrics.BinaryAccuracy,
            "sparse": metrics.SparseCategoricalAccuracy,
            "categorical": metrics.CategoricalAccuracy,
        }[_kind(y_true, y_pred)]
        return cls(name=name)
    metric = metrics.get(identifier)
    if not isinstance(metric, metrics.Metric):
        metric = metrics.MeanMetricWrapper(metric, name=name or _name_of(metric))
    if name is not None:
        metric.name = name
    return metric


def get_loss(identifier, y_true, y_pred):
    """The loss for `identifier`; "crossentropy" depends on the shapes of targets and outputs."""
    if isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce"):
        loss = {
            "binary": losses.binary_crossentropy,
            "sparse": losses.sparse_categorical_crossentropy,
            "categorical": losses.categorical_crossentropy,
        }[_kind(y_true, y_pred)]
    else:
        loss = losses.get(identifier)
    if isinstance(loss, losses.Loss):
        return loss
    name = identifier if isinstance(identifier, str) else _name_of(loss)
    if loss is losses.sparse_categorical_crossentropy:
        return losses.SparseCategoricalCrossentropy(name=name)
    return losses.LossFunctionWrapper(loss, name=name)


class Outputs:
    """The outputs of a model as a flat list with names, and what belongs to each of them.

    Args:
        y_pred: outputs, any nest of tensors.
        output_names: names of the outputs of a functional model, in flattened order, or None.
    """

    def __init__(self, y_pred, output_names=None):
        paths = _flatten_with_path(y_pred)
        self.count = len(paths)
        if isinstance(y_pred, dict) and all(len(path) == 1 for path in paths):
            self.names = [path[0] for path in paths]
        elif output_names and len(output_names) == self.count:
            self.names = list(output_names)
        elif self.count == 1:
            self.names = [None]
        else:
            self.names = ["/".join(str(key) for key in path) for path in paths]

    def spread(self, argument, value):
        """One entry per output of `value`: a list or nest of as many, or a dict by name."""
        if isinstance(value, dict) and set(value) <= set(self.names):
            return [value.get(name) for name in self.names]
        if isinstance(value, (list, tuple)) and len(value) == self.count:
            return list(value)
        flat = tree.flatten(value)
        if len(flat) == self.count:
            return flat
        raise ValueError(
            f"{argument}: it does not match the outputs of the model; expected a list of "
            f"{self.count} or a dict with the names {self.names}, got {value!r}"
        )

    def targets(self, argument, value, used=None):
        """One array per output (None where there is none) of targets or weights."""
        if isinstance(value, dict):
            if set(value) <= set(self.names):
                return [value.get(name) for name in self.names]
            if len(value) != self.count:
                raise ValueError(
                    f"{argument}: unknown outputs; expected the names {self.names}, got "
                    f"{sorted(value)}"
                )
        flat = tree.flatten(value)
        if len(flat) == self.count:
            return flat
        if used is not None and len(flat) == len(used):
            result = [None] * self.count
            for i, x in zip(used, flat, strict=True):
                result[i] = x
            return result
        raise ValueError(
            f"{argument}: the model has {self.count} output(s) {self.names}; expected as many "
            f"arrays, got {len(flat)}"
        )


def _flatten_with_path(structure, path=()):
    if isinstance(structure, dict):
        keys = tree.flatten({key: key for key in structure})
        return [leaf for key in keys for leaf in _flatten_with_path(structure[key], (*path, key))]
    if isinstance(structure, (list, tuple)):
        return [
            leaf
            for i, part in enumerate(structure)
            for leaf in _flatten_with_path(part, (*path, i))
        ]
    return [path]


class CompileLoss:
    """The weighted sum of the losses of all outputs.

    Args:
        loss: a loss for every output, or a list, dict (by output name) or nest of losses; None
            where an output has none. A list for a single output means the sum of them.
        loss_weights: a number, or numbers in the same form.
        output_names: names of the outputs of a functional model.
    """

    def __init__(self, loss, loss_weights=None, output_names=None):
        if loss_weights is not None and not isinstance(loss_weights, (list, tuple, dict, float)):
            raise ValueError(
                "compile: loss_weights must be a float, list, tuple or dict; got "
                f"{loss_weights!r} of type {type(loss_weights).__name__}"
            )
        for weight in tree.flatten(loss_weights):
            if weight is not None and not isinstance(weight, (int, float)):
                raise ValueError(
                    f"compile: loss_weights must be numbers; got {weight!r}. Likely cause: metrics "
                    "given by position; write metrics=[…]"
                )
        self.name = "compile_loss"
        self._loss = loss
        self._loss_weights = loss_weights
        self._output_names = output_names
        self.built = False
        self.metrics = []

    @property
    def variables(self):
        return [v for metric in self.metrics for v in metric.variables]

    def build(self, y_true, y_pred):
        """Make the losses, once the form of the outputs is known."""
        self._outputs = outputs = Outputs(y_pred, self._output_names)
        several = isinstance(self._loss, (list, tuple)) and outputs.count == 1
        if not tree.is_nested(self._loss):
            wanted = [self._loss] * outputs.count
        elif several:
            wanted = list(self._loss)
        else:
            wanted = outputs.spread("compile(loss=…)", self._loss)
        weights = self._loss_weights
        if weights is None or isinstance(weights, float):
            weights = [weights] * len(wanted)
        elif several:
            weights = list(weights)
        else:
            weights = outputs.spread("compile(loss_weights=…)", weights)
        if len(weights) != len(wanted):
            raise ValueError(
                f"compile: expected one of loss_weights per loss, got {len(wanted)} losses and "
                f"{len(weights)} weights"
            )
        places = [0] * len(wanted) if several else range(outputs.count)
        self._used = sorted({i for i, x in zip(places, wanted, strict=True) if x is not None})
        flat_true = outputs.targets("y", y_true, self._used)
        flat_pred = tree.flatten(y_pred)
        self._terms = []  # (place of the output, loss, weight)
        for i, loss, weight in zip(places, wanted, weights, strict=True):
            if loss is None:
                continue
            self._require_target(flat_true, i)
            loss = get_loss(loss, flat_true[i], flat_pred[i])
            self._terms.append((i, loss, weight))
        if len(self._terms) > 1:
            self.metrics = [
                metrics.Mean(name=f"{outputs.names[i] or loss.name}_loss")
                for i, loss, _ in self._terms
            ]
        self._classes = [
            (i, flat_pred[i].shape[getattr(loss, "axis", -1)], getattr(loss, "ignore_class", None))
            for i, loss, _ in self._terms
            if isinstance(loss, losses.SparseCategoricalCrossentropy) and flat_pred[i].ndim
        ]
        self.built = True

    def _require_target(self, flat_true, i):
        if flat_true[i] is None:
            name = self._outputs.names[i]
            raise ValueError(
                f"loss: no targets for output {name or i!r}; expected y with one array per "
                "output that has a loss. Likely cause: y is missing in fit(x, y), or the data "
                "set yields inputs only"
            )

    def __call__(self, y_true, y_pred, sample_weight=None):
        if not self.built:
            self.build(y_true, y_pred)
        flat_true = self._outputs.targets("y", y_true, self._used)
        flat_pred = tree.flatten(y_pred)
        weights = [None] * len(flat_pred)
        if sample_weight is not None:
            if tree.is_nested(sample_weight):
                weights = self._outputs.targets("sample_weight", sample_weight, self._used)
            else:
                weights = [sample_weight] * len(flat_pred)
        total = None
        with backend.name_scope(self.name):
            for k, (i, loss, weight) in enumerate(self._terms):
                self._require_target(flat_true, i)
                value = loss(flat_true[i], flat_pred[i], weights[i])
                if tuple(value.shape):
                    value = ops.mean(value)  # a loss without reduction is averaged
                value = ops.cast(value, backend.floatx())
                if self.metrics:
                    self.metrics[k].update_state(value, sample_weight=float(flat_pred[i].shape[0]))
                if weight is not None:
                    value = value * weight
                total = value if total is None else total + value
        return total

    def has_classes(self):
        return self.built and bool(self._classes)

    def check_labels(self, y_true):
        """Raise if an integer label on the host is none of the classes; costs one pass over y.

        Raises:
            ValueError: names output, range and what was found.
        """
        if not self.has_classes():
            return
        flat_true = self._outputs.targets("y", y_true, self._used)
        for i, classes, ignored in self._classes:
            labels = flat_true[i]
            if labels is None or not hasattr(labels, "__array__") or not labels.size:
                continue
            low, high = labels.min(), labels.max()
            if 0 <= low and high < classes:
                continue
            if ignored is not None:
                labels = labels[labels != ignored]
                if not labels.size or (0 <= labels.min() and labels.max() < classes):
                    continue
                low, high = labels.min(), labels.max()
            if low != low or high != high:
                cause = "NaN in the labels"
            elif high == classes:
                cause = "labels that start at 1: subtract 1, or give the last layer one unit more"
            else:
                cause = "the last layer has fewer units than there are classes"
            name = self._outputs.names[i]
            raise ValueError(
                f"sparse_categorical_crossentropy: label out of range{_of(name)}; expected "
                f"integers from 0 to {classes - 1} (the model has {classes} outputs), got values "
                f"from {low} to {high}. Likely cause: {cause}"
            )


def _of(name):
    return f" for output {name!r}" if name else ""


class CompileMetrics(metrics.Metric):
    """All metrics of `compile(metrics=…, weighted_metrics=…)`.

    Args:
        metrics: list for a model of one output; otherwise a list or dict with one entry (a metric
            or a list of them) per output.
        weighted_metrics: the same, for metrics that take the sample weights into account.
        output_names: names of the outputs of a functional model.
    """

    def __init__(self, metrics, weighted_metrics, output_names=None):
        super().__init__(name="compile_metrics")
        for argument, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, (list, tuple, dict)):
                raise ValueError(
                    f"compile: {argument} must be a list, tuple or dict; got {value!r} of type "
                    f"{type(value).__name__}"
                )
        self._user = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        self._output_names = output_names
        self.built = False
        self._groups = {"metrics": [], "weighted_metrics": []}  # lists of metrics per output

    @property
    def metrics(self):
        return [m for groups in self._groups.values() for group in groups for m in group]

    @property
    def variables(self):
        return [v for m in self.metrics for v in m.variables]

    def build(self, y_true, y_pred):
        """Make the metrics, once the form of the outputs is known."""
        self._outputs = Outputs(y_pred, self._output_names)
        flat_true = self._outputs.targets("y", y_true)
        flat_pred = tree.flatten(y_pred)
        for argument, wanted in self._user.items():
            groups = [[] for _ in flat_pred]
            if wanted:
                if len(flat_pred) == 1:
                    entries = [tree.flatten(wanted)]
                else:
                    entries = self._outputs.spread(f"compile({argument}=…)", wanted)
                for i, entry in enumerate(entries):
                    for identifier in tree.flatten(entry):
                        if identifier is not None and flat_true[i] is not None:
                            groups[i].append(get_metric(identifier, flat_true[i], flat_pred[i]))
            self._groups[argument] = groups
        self.built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self.built:
            self.build(y_true, y_pred)
        flat_true = self._outputs.targets("y", y_true)
        flat_pred = tree.flatten(y_pred)
        weights = [None] * len(flat_pred)
        if sample_weight is not None:
            if tree.is_nested(sample_weight):
                weights = self._outputs.targets("sample_weight", sample_weight)
            else:
                weights = [sample_weight] * len(flat_pred)
        for i, (y_t, y_p) in enumerate(zip(flat_true, flat_pred, strict=True)):
            for metric in self._groups["metrics"][i]:
                metric.update_state(y_t, y_p)
            for metric in self._groups["weighted_metrics"][i]:
                metric.update_state(y_t, y_p, sample_weight=weights[i])

    def reset_state(self):
        for metric in self.metrics:
            metric.reset_state()

    def result(self):
        """{name: value}; metrics of models with several outputs begin with the output's name."""
        results, seen = {}, {}
        for argument, groups in self._groups.items():
            for i, group in enumerate(groups):
                prefix = ""
                if len(groups) > 1 and self._outputs.names[i] is not None:
                    prefix = f"{self._outputs.names[i]}_"
                for metric in group:
                    name = prefix + metric.name
                    if name in seen and argument == "weighted_metrics":
                        name = f"{prefix}weighted_{metric.name}"
                    count = seen.get(name, 0)
                    seen[name] = count + 1
                    results[f"{name}_{count}" if count else name] = metric.result()
        return results

    def get_config(self):
        raise NotImplementedError("CompileMetrics: it is saved as part of the model's compile()")
