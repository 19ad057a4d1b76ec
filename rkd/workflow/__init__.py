"""The parts that Snakemake uses: the plan, the digest of a job's code, GPU slots."""
