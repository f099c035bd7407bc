"""Front ends: waveforms [B, S] -> features [B, C, F, T], on the device, in the batch."""
