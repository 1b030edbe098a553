"""What a chat template may be passed by name: what is left beside what transformers takes for itself."""

from keyword import iskeyword

RESERVED = (
    "messages", "conversation", "conversations", "tools", "chat_template", "add_generation_prompt",
    "continue_final_message", "return_assistant_tokens_mask", "tokenize", "sanitize_control_tokens", "padding",
    "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs", "self",
)  # fmt: skip
"""Arguments of transformers' `apply_chat_template`, and of what it calls, that never reach the template as an option.
`documents` does: https://huggingface.co/docs/transformers/internal/tokenization_utils"""


def option_problem(name: str) -> str | None:
    """Why no template can be passed an option of this name, for an error message; None where one can."""
    if name in RESERVED:
        return f"chat_template_kwargs cannot set {name!r}, which every chat template is passed or transformers takes"
    if not name.isidentifier() or iskeyword(name):
        return f"chat_template_kwargs cannot set {name!r}: a template reads names of letters, digits and underscores"
    return None
