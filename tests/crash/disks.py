CASES=[]
class Skip(Exception): pass
