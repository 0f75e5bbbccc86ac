"""What a data set would teach a student besides its task, before it is trained."""
