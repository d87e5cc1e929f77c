from .money import euros

__all__ = ["euros"]
