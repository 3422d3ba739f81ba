"""What dequantization does wrong: a bank of `forms` of outputs, each with where it holds (`facts`)."""
