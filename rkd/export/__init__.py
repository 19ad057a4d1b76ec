"""Export of a trained student: model, tokenizer, model card and, on request, ONNX."""

from rkd.export.folder import export

__all__ = ["export"]
