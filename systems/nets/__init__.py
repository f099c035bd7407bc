"""Blocks and backbones."""
