"""From a batch rule to an SAE that needs no batch: held-out rows, calibration, and what freezing changes."""
