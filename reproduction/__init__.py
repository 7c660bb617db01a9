"""The poster's systems, tables and figures, made with the package as any user would."""
