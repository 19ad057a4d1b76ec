"""What Snakemake uses: the plan, the digest of a job's code, the slots of GPUs."""
