"""What training and publishing write: run folders, model folders, cards, results, and their way to and from the Hub."""
