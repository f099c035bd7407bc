"""Search spaces of clip_cnn."""
