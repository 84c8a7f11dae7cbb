"""Parsed metrics of `/metrics`, and the metrics that alert rules use."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families


class Samples:
    """The samples of one response."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples with that name and these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {sample.labels[label] for sample in self._samples if sample.name == name}

    def described(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield each metric with its labels, as in the documents: a histogram by its base name."""
        for sample in self._samples:
            name, labels = sample.name, set(sample.labels)
            for part in ("_bucket", "_sum", "_count"):
                name = name.removesuffix(part)
            yield name, frozenset(labels - {"le"})
