"""Pipeline `dreamfusion`: text to 3D by score distillation (Poole et al. 2022)."""
