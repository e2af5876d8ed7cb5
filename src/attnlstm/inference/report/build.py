"""The report for a trained model."""

from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.inference.report.classification import ClassificationReport
from attnlstm.inference.report.multilabel import MultilabelReport
from attnlstm.inference.report.regression import RegressionReport
from attnlstm.inference.report.report import Report
from attnlstm.nn.ensemble import members_of


def build_report(trained: TrainedModel, max_examples: int) -> Report:
    """Build the report for the task of a model, with at most `max_examples` rows on its page."""
    names = trained.label_names
    spans = trained.encoder.spans if isinstance(trained.encoder, TextEncoder) else None
    if trained.task == "regression":
        scale = members_of(trained.classifier)[0].target_scale
        assert scale is not None
        mean, std = scale.mean.double().numpy(), scale.std.double().numpy()
        return RegressionReport(names, spans, max_examples, mean, std)
    kind = MultilabelReport if trained.task == "multilabel" else ClassificationReport
    return kind(names, spans, max_examples)
