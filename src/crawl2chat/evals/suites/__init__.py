"""Public test suites, read from their files: CORE, GSM8K, ARC, MMLU, HumanEval and the like."""
