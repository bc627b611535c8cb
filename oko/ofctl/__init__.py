"""oko-ofctl: flows, groups, meters, ports, filter programs and maps of a switch, at the prompt.

    oko-ofctl add-flow br0 'priority=10,filter_prog=1,tcp,actions=drop'
    oko-ofctl load-filter-prog br0 1 blocked.o
    oko-ofctl update-map br0 1 map=blocked key=ip:172.16.0.14 value=u32:1

Commands, options and texts are those of ovs-ofctl; the ones about programs and maps go back to Oko.
main.py is the way through: commandline.py reads the words, run.py opens connections, a module per
subject carries a command out (flows, switch, groups, programs, packets), printing.py has the texts.

Modules are imported when a command needs them: a command that fails or is small starts at once.
"""
