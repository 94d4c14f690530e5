"""The model families that pcompiler works with, by transformers' model type.

RMSNorm before (Gemma: also after) each sub-layer, a gated MLP, grouped-query attention, full
rotary positions. Every family is tested against its own transformers implementation.
"""

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")

# Their forward pass takes a dictionary of masks, one for each type of layer.
MASK_BY_LAYER_TYPE = ("qwen2", "qwen3", "gemma2", "gemma3_text")
