"""Reference studies: from a raw data set to numbers, tables, pictures and a report that anyone can make again."""
