"""The conditions of ACL statements (44.26), one a file; the file's name is the condition's."""
