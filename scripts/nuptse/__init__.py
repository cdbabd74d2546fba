"""The logic of Nuptse: imports neither Snakemake nor argparse, so that every part can be tested by itself."""
