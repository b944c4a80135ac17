"""Models that read one sequence and write another."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

import torch

from .table import ENCODER_DECODER, Architecture, Call, entry, of_transformers, tokens

T5 = {"vocab_size": 100, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "use_cache": False}
BART = {
    "vocab_size": 100,
    **ENCODER_DECODER,
    "max_position_embeddings": 64,
    "use_cache": False,
    "pad_token_id": 1,
    "decoder_start_token_id": 2,
}


def encoder_decoder(name: str, model: str, config: str, **settings: Any) -> None:
    """A model of transformers from tokens to tokens; both lengths are dynamic."""

    @entry("encoder-decoder", name)
    def make() -> Architecture:
        def inputs(batch: int, length: int) -> Call:
            mask = torch.ones(batch, length, dtype=torch.int64)
            return Call(
                kwargs={
                    "input_ids": tokens(batch, length),
                    "attention_mask": mask,
                    "decoder_input_ids": tokens(batch, length - 4),
                    "use_cache": False,
                }
            )

        dynamic = {
            "input_ids": {0: "batch", 1: "source"},
            "attention_mask": {0: "batch", 1: "source"},
            "decoder_input_ids": {0: "batch", 1: "target"},
        }
        return Architecture(of_transformers(model, config, **settings), inputs, dynamic)


encoder_decoder("t5", "T5ForConditionalGeneration", "T5Config", **T5)
encoder_decoder("mt5", "MT5ForConditionalGeneration", "MT5Config", **T5)
encoder_decoder("bart", "BartForConditionalGeneration", "BartConfig", **BART)
encoder_decoder("marian", "MarianMTModel", "MarianConfig", **BART)
encoder_decoder("pegasus", "PegasusForConditionalGeneration", "PegasusConfig", **BART)
encoder_decoder("m2m100", "M2M100ForConditionalGeneration", "M2M100Config", **BART)
encoder_decoder("mbart", "MBartForConditionalGeneration", "MBartConfig", **BART)


@entry("encoder-decoder")
def t5_encoder() -> Architecture:
    return Architecture(
        of_transformers("T5EncoderModel", "T5Config", **T5),
        lambda batch, length: Call(kwargs={"input_ids": tokens(batch, length)}),
        {"input_ids": {0: "batch", 1: "length"}},
    )
