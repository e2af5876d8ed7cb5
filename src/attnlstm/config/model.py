"""The section `model`: the parts of the classifier and their arguments."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from attnlstm.config.section import (
    Count,
    FeatureSize,
    Name,
    Natural,
    Number,
    Section,
    Share,
    ShareBelowOne,
)
from attnlstm.errors import UserError

Backend = Literal["auto", "naive", "fused", "torch", "native"]
Activation = Literal["tanh", "sigmoid", "relu", "hard_sigmoid"]
SkipPoolingName = Literal["mean", "max"]


class LSTMConfig(Section):
    """The keyword arguments of `attnlstm.nn.LSTM`."""

    hidden_size: FeatureSize = 128
    """features of the hidden state, in each direction"""
    num_layers: Annotated[int, Field(ge=1, le=256), Number] = 1
    """number of stacked layers"""
    bias: bool = True
    """whether gates have biases"""
    dropout: Share = 0.0
    """dropout between layers, drawn at each step"""
    bidirectional: bool = True
    """whether a second LSTM reads each sequence backward"""
    proj_size: Natural = 0
    """size to which the hidden state is projected; 0: no projection"""
    backend: Backend = "auto"
    """what runs the recurrence; auto: the fastest one available"""
    layer_norm: bool = False
    """whether gates and cell state are layer-normalized"""
    activation: Activation = "tanh"
    """activation of the candidate and the output"""
    recurrent_activation: Activation = "sigmoid"
    """activation of the gates"""
    recurrent_dropout: Share = 0.0
    """DropConnect on the hidden-to-hidden weights"""
    variational_dropout: Share = 0.0
    """dropout between layers, drawn once per sequence"""
    forget_bias: Annotated[float, Number] | None = None
    """initial bias of the forget gate; null: as torch.nn.LSTM"""

    @model_validator(mode="after")
    def _check_combinations(self) -> Any:
        if self.proj_size >= self.hidden_size:
            raise UserError(
                f"model.lstm.proj_size={self.proj_size} must be smaller than "
                f"model.lstm.hidden_size={self.hidden_size}"
            )
        if self.forget_bias is not None and not self.bias:
            raise UserError("model.lstm.forget_bias needs model.lstm.bias=true")
        return self


class StemConfig(Section):
    """The stem for series and its options; None where a stem does not have the option."""

    name: str = "none"
    """convolutions before the LSTM; see conf/model/stem"""
    stride: Annotated[int, Field(ge=1, le=65536), Number] | None = None
    """time steps per step that the LSTM reads, a power of 2; null: leaves about 64 steps"""
    num_filters: Annotated[int, Field(ge=1, le=4096), Number] | None = None
    """features of each step that the LSTM reads"""
    bottleneck: Annotated[int, Field(ge=1, le=4096), Number] | None = None
    """input features of the wide convolutions of inception"""
    kernel_sizes: list[Annotated[int, Number]] | None = None
    """odd kernel sizes of inception; null: chosen from the number of steps"""


class EmbeddingConfig(Section):
    """The token embedding of texts."""

    size: FeatureSize = 128
    """size of a token's vector"""
    vectors: Name | None = None
    """glove-6b-50d: added to the trained vectors; or a file of initial vectors"""
    freeze: bool = False
    """whether the vectors from the file stay fixed"""
    word_dropout: ShareBelowOne = 0.0
    """share of tokens replaced by the unknown token"""
    embedding_dropout: ShareBelowOne = 0.0
    """share of word types whose vectors are zeroed in a batch"""
    variational_dropout: ShareBelowOne = 0.0
    """dropout of vector features, drawn once per text"""


class NgramsConfig(Section):
    """The n-gram classifier for texts."""

    num_buckets: Annotated[int, Field(ge=1, le=1048576), Number] = 65536
    """size of the hash table of word pairs"""
    sublinear_tf: bool = False
    """whether a word that occurs c times counts as 1 + log(c)"""


class RandomConvolutionsConfig(Section):
    """The classifier on fixed random convolutions of series; None is chosen from the data."""

    dilations: list[Annotated[int, Number]] | None = None
    """dilations of the filters; null: all powers of 2 that fit"""
    num_thresholds: Annotated[int, Field(ge=1, le=64), Number] | None = None
    """thresholds per filter; null: gives about 4,000 features"""


class ModelConfig(Section):
    """The classifier, from the embedding (texts) or the stem (series) to the head."""

    embedding: EmbeddingConfig = EmbeddingConfig()
    """the token embedding of texts"""
    lstm: LSTMConfig = LSTMConfig()
    """the LSTM"""
    stem: StemConfig = StemConfig()
    """convolutions before the LSTM, for series"""
    pooling: list[str] | str = Field(default=["hn_query"])
    """how outputs become one vector: one or several side by side; see conf/model/pooling"""
    scaled_attention: bool = False
    """whether hn_query divides its scores by sqrt(feature size)"""
    skip_pooling: list[SkipPoolingName] | SkipPoolingName = Field(default=[])
    """poolings of the LSTM's inputs, which bypass the LSTM"""
    ngrams: NgramsConfig | None = None
    """a second classifier on words and word pairs, for texts; null: none"""
    random_convolutions: RandomConvolutionsConfig | None = None
    """a second classifier on fixed convolutions, for series; null: none"""
    max_steps: Count | None = None
    """number of steps that the LSTM reads; null: all"""
    dropout: Share = 0.0
    """dropout of the pooled vector, before the head"""
    ensemble_size: Annotated[int, Field(ge=1, le=100), Number] = 1
    """number of models that are trained together and averaged"""

    @model_validator(mode="after")
    def _check_poolings(self) -> Any:
        for key in ("pooling", "skip_pooling"):
            names = getattr(self, key)
            if isinstance(names, list) and len(set(names)) < len(names):
                raise UserError(f"model.{key}=[{','.join(names)}] names one twice: leave it out")
        if self.pooling == []:
            raise UserError("model.pooling=[] pools nothing: name one, such as [hn_query]")
        return self
