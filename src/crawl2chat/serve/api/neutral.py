"""Request fields of OpenAI and of other servers that are not supported here, with the values that change nothing.

Clients send many of them by default, and their users can't change that. A field with one of these values is accepted;
with any other it is refused by name, because ignoring it would silently give another answer than the one asked for.
Null is accepted for every field.
"""

from collections.abc import Mapping

ANY = object()  # changes nothing of the answer, whatever it is

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    # OpenAI
    "audio": (), "functions": ([],), "function_call": ("none", "auto"), "metadata": (ANY,), "modalities": (["text"],),
    "moderation": (), "prediction": (ANY,), "prompt_cache_key": (ANY,), "prompt_cache_options": (ANY,),
    "prompt_cache_retention": (ANY,), "reasoning": ({},), "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},), "safety_identifier": (ANY,), "service_tier": (ANY,), "store": (ANY,),
    "suffix": ("",), "user": (ANY,), "verbosity": ("medium",), "web_search_options": (),
    # vLLM
    "add_generation_prompt": (True,), "add_special_tokens": (False,), "allowed_token_ids": ([],), "bad_words": ([],),
    "cache_salt": (ANY,), "chat_template": ("",), "continue_final_message": (False,), "detokenize": (True,),
    "chat_template_kwargs": ({}, {"enable_thinking": False}, {"thinking": False}),
    "documents": ([],), "early_stopping": (False,), "echo": (False,), "guided_choice": ([],),
    "guided_decoding_backend": (ANY,), "guided_grammar": ("",), "guided_json": ("",), "guided_regex": ("",),
    "guided_whitespace_pattern": (ANY,), "ignore_eos": (False,), "include_reasoning": (ANY,),
    "include_stop_str_in_output": (False,), "kv_transfer_params": ({},), "length_penalty": (1,),
    "logits_processors": ([],), "min_tokens": (0,), "mm_processor_kwargs": ({},), "priority": (ANY,),
    "prompt_logprobs": (False,), "request_id": (ANY,), "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,), "spaces_between_special_tokens": (ANY,), "stop_token_ids": ([],),
    "structured_outputs": ({},), "truncate_prompt_tokens": (), "use_beam_search": (False,), "vllm_xargs": ({},),
    # SGLang
    "custom_params": ({},), "ebnf": ("",), "lora_path": ("",), "min_new_tokens": (0,), "no_stop_trim": (False,),
    "regex": ("",), "return_hidden_states": (False,), "rid": (ANY,), "separate_reasoning": (ANY,),
    "stream_reasoning": (ANY,),
    # llama.cpp
    "cache_prompt": (ANY,), "dry_allowed_length": (ANY,), "dry_base": (ANY,), "dry_multiplier": (0,),
    "dry_penalty_last_n": (ANY,), "dry_sequence_breakers": (ANY,), "dynatemp_exponent": (ANY,),
    "dynatemp_range": (0,), "grammar": ("",), "grammar_lazy": (False,), "id_slot": (ANY,), "json_schema": ("",),
    "lora": ([],), "min_keep": (0,), "mirostat": (0,), "mirostat_eta": (ANY,), "mirostat_tau": (ANY,),
    "n_discard": (0,), "n_indent": (0,), "n_keep": (0,), "n_probs": (0,), "parse_tool_calls": (ANY,),
    "penalize_nl": (ANY,), "post_sampling_probs": (False,), "reasoning_format": (ANY,), "repeat_last_n": (ANY,),
    "repeat_penalty": (1,), "response_fields": ([],), "return_progress": (False,), "return_tokens": (False,),
    "samplers": ([], ""), "slot_id": (ANY,), "t_max_predict_ms": (0,), "tfs_z": (1,), "thinking_forced_open": (False,),
    "timings_per_token": (ANY,), "top_n_sigma": (-1, 0), "typ_p": (1,), "typical_p": (1,), "xtc_probability": (0,),
    "xtc_threshold": (ANY,),
    # Ollama, LM Studio, Open WebUI
    "chat_id": (ANY,), "draft_model": (ANY,), "format": ("",), "keep_alive": (ANY,), "options": ({},),
    "raw": (False,), "session_id": (ANY,), "template": ("",), "think": (False,), "ttl": (ANY,), "typical": (1,),
    # DeepSeek, Qwen, Mistral, OpenRouter
    "enable_search": (False,), "enable_thinking": (False,), "plugins": ([],), "prompt_mode": (),
    "safe_prompt": (False,), "thinking": ({"type": "disabled"},), "thinking_budget": (0,), "transforms": ([],),
    # KoboldCpp, Aphrodite, TabbyAPI
    "nsigma": (0,), "smoothing_curve": (1,), "smoothing_factor": (0,), "temperature_last": (False,), "tfs": (1,),
    "top_a": (0,),
    # OpenAI's SDK, which puts what is in it next to the other fields; by hand it is sent as it is
    "extra_body": ({},),
    # Text Generation Inference, transformers
    "decoder_input_details": (False,), "details": (False,), "do_sample": (True,), "num_beams": (1,),
    "return_full_text": (False,), "watermark": (False,),
}  # fmt: skip
# A chat's answer goes on to its own end anyway
CHAT_NEUTRAL = {**NEUTRAL, **dict.fromkeys(("n_predict", "num_predict", "max_new_tokens"), (-1,))}
STREAM_NEUTRAL: Mapping[str, tuple[object, ...]] = {"continuous_usage_stats": (False,)}
# What others call a field of ours
OTHER_NAMES = {
    "repeat_penalty": "repetition_penalty", "n_predict": "max_tokens", "num_predict": "max_tokens",
    "max_new_tokens": "max_tokens", "max_output_tokens": "max_tokens",
    "random_seed": "seed", "stop_sequences": "stop", "input": "messages", "num_return_sequences": "n",
    "temp": "temperature", "topp": "top_p", "topk": "top_k",
}  # fmt: skip


def is_neutral(value: object, neutral: tuple[object, ...]) -> bool:
    """Whether a value is among these. Numbers are equal by value; true and false are not numbers."""
    if isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if inner is not None}
    return any(other is ANY or ((type(value) is bool) == (type(other) is bool) and value == other) for other in neutral)
