"""Whether a classifier is worth learning from: how often it is right, and how much it tells beyond the label."""

from dataclasses import dataclass, replace

from graphrewrite.data import DataSource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.pipeline.metrics.stability import answers, stability
from graphrewrite.pipeline.quality import Accuracy, accuracy

# A teacher is taken for one trained with smoothed labels when it says nearly the same of all samples of a class, and is
# right clearly more often than it is sure. Softened much, what it still tells apart drowns.
_STABLE = 0.95
_UNSURE = 0.05
_SOFT = 2.0


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a teacher from labelled samples it was not trained on.

    Attributes:
        accuracy: how often its largest score is right; of all figures the best forecast of the student's.
        stability: S (Shen et al. 2021); at 1 it says the same of all samples of a class, so no more than a label.
        confidence: mean probability of its first choice.
        warnings: what speaks against it; reasons to think, not to stop.
    """

    accuracy: Accuracy
    stability: float
    confidence: float
    warnings: tuple[str, ...]


def check_teacher(
    teacher: Model, data: DataSource, temperature: float = 1.0, batch: int = 64, threads: int = 0
) -> TeacherFacts:
    """Measure a teacher on labelled samples; `temperature` is the one its scores are to be softened by.

    Raises:
        InvalidConfig: the temperature is not positive.
        InvalidData: there are no class labels, or the first output scores no classes.
    """
    if not temperature > 0:
        raise InvalidConfig(
            f"a teacher's scores cannot be softened by the temperature {temperature}; expected a positive number; 1 "
            "leaves them as they are"
        )
    found, labels = answers(teacher, data, batch, threads)
    right = int((found.argmax(axis=1) == labels).sum())
    facts = TeacherFacts(
        accuracy(right, len(labels)), stability(found, labels), float(found.max(axis=1).mean()), ()
    )
    warnings = []
    if (
        temperature > _SOFT
        and facts.stability >= _STABLE
        and facts.confidence < facts.accuracy.share - _UNSURE
    ):
        warnings.append(
            f"it looks trained with smoothed labels: right for {facts.accuracy.share:.1%}, sure to "
            f"{facts.confidence:.1%}, stability {facts.stability:.3f}; softened by {temperature:g} little of what it "
            "knows is left, so take a temperature near 1"
        )
    if right <= len(labels) / found.shape[1]:
        warnings.append("it is right no more often than chance")
    return replace(facts, warnings=tuple(warnings))
