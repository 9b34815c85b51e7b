"""Hooks, registered in mmengine's root registry."""

from .reparameterize_hook import ReparameterizeHook

__all__ = ['ReparameterizeHook']
