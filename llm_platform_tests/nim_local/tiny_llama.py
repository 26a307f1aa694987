"""A two-layer Llama with the real tokenizer, as transformers has it and as a GGUF file in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llm_platform.nim_local.adapters import rotary_order
from llm_platform.nim_local.gguf_header import read_header

LAYERS, HEADS, KEY_HEADS, WIDTH, INNER = 2, 4, 2, 64, 128


def tiny_llama(vocabulary_size: int) -> Any:
    """Random weights, far enough apart that no two tokens are equally likely."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(model: Any, tokenizer_from: Path, target: Path) -> Path:
    """The model with the tokenizer of another GGUF file."""
    from gguf import GGUFWriter

    writer = GGUFWriter(target, arch="llama")
    _add_settings(writer)
    fields = read_header(tokenizer_from).fields
    writer.add_tokenizer_model(fields["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(fields["tokenizer.ggml.pre"])
    writer.add_token_list(fields["tokenizer.ggml.tokens"])
    writer.add_token_types(fields["tokenizer.ggml.token_type"])
    writer.add_token_merges(fields["tokenizer.ggml.merges"])
    writer.add_eos_token_id(fields["tokenizer.ggml.eos_token_id"])
    writer.add_add_bos_token(False)
    state = {name: values.detach().float().numpy() for name, values in model.state_dict().items()}
    for name, place in _names().items():
        heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(name.split(".")[-2])
        values = state[place] if heads is None else rotary_order(state[place], heads)
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_settings(writer: Any) -> None:
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(0)


def _names() -> dict[str, str]:
    """Name in the GGUF file → name in transformers."""
    parts = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    layers = {
        f"blk.{layer}.{ours}.weight": f"model.layers.{layer}.{theirs}.weight"
        for layer in range(LAYERS)
        for ours, theirs in parts.items()
    }
    return {"token_embd.weight": "model.embed_tokens.weight", **layers, "output_norm.weight": "model.norm.weight"}
