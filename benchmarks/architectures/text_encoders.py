"""Encoders of text, with a padding mask, dynamic in batch and sequence length."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

from .table import Architecture, Call, entry, of_transformers, padding_mask, tokens

TEXT = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
TEXT_DIMS = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}}


def text(
    name: str, model: str, config: str, family: str = "text encoder", times: int = 1, implementation: str = "", **settings: Any
) -> None:
    """A model of transformers for token ids and their mask; sequences have `times` the length asked for.

    `implementation` is that of a mixture's experts, where torch.export does not take the one transformers chooses.
    """

    @entry(family, name)
    def make() -> Architecture:
        module = of_transformers(model, config, **settings)
        if implementation:
            module.set_experts_implementation(implementation)

        def inputs(batch: int, length: int) -> Call:
            ids = tokens(batch, times * length)
            return Call(kwargs={"input_ids": ids, "attention_mask": padding_mask(batch, times * length)})

        return Architecture(module, inputs, TEXT_DIMS)


DISTILBERT = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 100, "max_position_embeddings": 64}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 1}
FUNNEL = {"d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 128, "block_sizes": [1, 1], "num_decoder_layers": 1}
MOBILEBERT = {**TEXT, "embedding_size": 32, "intra_bottleneck_size": 64, "true_hidden_size": 64}

# fmt: off
text("bert", "BertModel", "BertConfig", **TEXT)
text("roberta", "RobertaForSequenceClassification", "RobertaConfig", **TEXT)
text("xlm_roberta", "XLMRobertaForTokenClassification", "XLMRobertaConfig", **TEXT)
text("distilbert", "DistilBertForTokenClassification", "DistilBertConfig", **DISTILBERT)
text("albert", "AlbertForQuestionAnswering", "AlbertConfig", embedding_size=32, **TEXT)
text("electra", "ElectraForPreTraining", "ElectraConfig", embedding_size=32, **TEXT)
text("deberta_v2", "DebertaV2ForSequenceClassification", "DebertaV2Config", norm_rel_ebd="layer_norm", **DEBERTA, **TEXT)
text("mpnet", "MPNetModel", "MPNetConfig", **TEXT)
text("bigbird", "BigBirdModel", "BigBirdConfig", attention_type="original_full", **TEXT)
text("funnel", "FunnelModel", "FunnelConfig", vocab_size=100, **FUNNEL)
text("modernbert", "ModernBertModel", "ModernBertConfig", **SPECIAL, **TEXT)
text("convbert", "ConvBertModel", "ConvBertConfig", embedding_size=64, **TEXT)
text("mobilebert", "MobileBertModel", "MobileBertConfig", **MOBILEBERT)
text("roformer", "RoFormerModel", "RoFormerConfig", embedding_size=64, **TEXT)
text("squeezebert", "SqueezeBertModel", "SqueezeBertConfig", embedding_size=64, q_groups=2, k_groups=2, v_groups=2,
     post_attention_groups=1, intermediate_groups=2, output_groups=2, **TEXT)
text("esm", "EsmModel", "EsmConfig", pad_token_id=0, mask_token_id=1, position_embedding_type="rotary", **TEXT)
text("xlnet", "XLNetModel", "XLNetConfig", vocab_size=100, d_model=64, n_layer=2, n_head=4, d_inner=128)
text("longformer", "LongformerModel", "LongformerConfig", times=4, attention_window=4,
     **{**TEXT, "max_position_embeddings": 128})
# fmt: on


@entry("text encoder")
def fnet() -> Architecture:
    settings = {key: value for key, value in TEXT.items() if key != "num_attention_heads"}
    return Architecture(
        of_transformers("FNetModel", "FNetConfig", **settings),
        lambda batch, length: Call(kwargs={"input_ids": tokens(batch, length)}),
        {"input_ids": TEXT_DIMS["input_ids"]},
    )
