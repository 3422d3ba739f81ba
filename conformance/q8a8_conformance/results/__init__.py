"""The results of a run: records, the verdict, observations, the use of the bound, and bias."""
