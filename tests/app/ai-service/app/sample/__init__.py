"""What only the sample has: releases and switches to misbehave."""
