"""Many runs, one table: plan, study, compare, reproduce."""
