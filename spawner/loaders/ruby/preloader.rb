# The preloader: the app is loaded once, and workers are forked from it.
module HatcheryLoader
  # How a process ends with the keeper, which is its parent.
  module Keeper
    PR_SET_PDEATHSIG = 1
    PR_GET_PDEATHSIG = 2
    KILL = 9
    PATIENCE = 2

    class << self
      # At the start: a preloader's parent is the keeper.
      def remember
        @pid = Process.ppid
      end

      # In the preloader, after the app is loaded (a bundle may bring a fiddle of its own).
      def prepare
        require 'fiddle'
        long = Fiddle::TYPE_LONG
        @prctl = Fiddle::Function.new(Fiddle::Handle::DEFAULT['prctl'], [Fiddle::TYPE_INT, long, long, long, long],
                                      Fiddle::TYPE_INT)
        # The first call of a function costs more than the next.
        signal = Fiddle::Pointer.malloc(Fiddle::SIZEOF_INT, Fiddle::RUBY_FREE)
        @prctl.call(PR_GET_PDEATHSIG, signal.to_i, 0, 0, 0)
      rescue LoadError, StandardError => error
        warn "hatchery: workers watch their owner by a thread, since there is no prctl: #{error.message}"
        @prctl = nil
      end

      # In the worker, once: it becomes the keeper's when the process between has gone.
      def become_child
        by = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
        turns = 0
        until Process.ppid == @pid
          exit!(1) if Process.clock_gettime(Process::CLOCK_MONOTONIC) > by
          # The process between ends at once: what is waited for has no event that this one could see.
          (turns += 1) > 20 ? sleep(0.001) : Thread.pass
        end
        return unless @prctl && @prctl.call(PR_SET_PDEATHSIG, KILL, 0, 0, 0).zero?
        exit!(1) unless Process.ppid == @pid
        @signalled = true
      end

      # Where the kernel can't be asked: the core reads this worker's output, and its end is seen there.
      def watch(output)
        return if @signalled
        pipe = output.dup
        Thread.new do
          # The writing end of a pipe is never readable, but for the end of whoever reads.
          IO.select([pipe])
          exit!(0)
        end.name = 'hatchery: watches the owner'
      end
    end
  end

  class Preloader
    # Descriptors that come with an order.
    GIVEN = 4

    def initialize(control)
      @control = Socket.for_fd(control.io.fileno)
      control.io.autoclose = false
      @reserved = reserved
    end

    # Returns in each worker, with its listener and its channel to the spawner.
    def run
      # A preloader serves nobody: it has nothing to end first.
      Signal.trap('TERM') { exit(0) }
      loop do
        mark, given = order
        return enter(mark, *given) if fork_worker
        given.each(&:close)
      end
    end

    # Why no worker may be forked, or nil.
    def self.unfit
      threads = Thread.list.reject { |thread| thread == Thread.main || may_be_forked?(thread) }
      return nil if threads.empty?
      place = threads.first.inspect[/ (\S+:\d+)/, 1]
      count = threads.size == 1 ? 'a thread of its own' : "#{threads.size} threads of its own"
      "it runs #{count} once it is loaded#{" (#{place})" if place}, which a forked worker would not have"
    end

    # Ruby's Timeout begins another where it is missing; others say of themselves that they do.
    def self.may_be_forked?(thread)
      return true if thread.thread_variable_get(:fork_safe)
      thread.name.to_s == 'Timeout stdlib thread' || thread.inspect.match?(%r{/timeout\.rb:\d+})
    end

    # Once, after the app was loaded: what is garbage goes, and what stays lies close together.
    def self.settle
      return Process.warmup if Process.respond_to?(:warmup)
      GC.start
      GC.compact if GC.respond_to?(:compact)
    rescue NotImplementedError
      nil # This machine's Ruby can't; more is copied then.
    end

    private

    # What stands at 3 for the listener that is to come, or nil.
    def reserved
      return nil unless File.identical?("/proc/self/fd/#{LISTENER}", '/dev/null')
      IO.for_fd(LISTENER, autoclose: false)
    end

    def order
      text, _, _, rights = @control.recvmsg(32_768, 0, nil, scm_rights: true)
      exit(0) if text.nil? || text.empty?
      word, mark = text.split("\0", 2)
      given = rights && rights.unix_rights
      return [mark, given] if word == 'fork' && mark && given && given.size == GIVEN
      warn "hatchery: the preloader was told #{word.inspect} with #{given ? given.size : 0} descriptors"
      exit(1)
    end

    # True in the worker. The process between has gone when this returns, so that the keeper is the worker's parent.
    def fork_worker
      HatcheryLoader.run_hooks(:before_fork)
      between = fork_or_say
      if between
        Process.wait(between)
        return false
      end
      return false if between == false
      # Neither the app's at_exit nor anything that is not written yet is this process's matter.
      exit!(0) unless fork_or_say.nil?
      true
    end

    # The child's pid, nil in the child, false where there is none.
    def fork_or_say
      Process.fork
    rescue SystemCallError => error
      warn "hatchery: no worker can be forked: #{error.message}"
      false
    end

    def enter(mark, listener, output, errors, announce)
      Signal.trap('TERM', 'DEFAULT')
      Process.setsid
      Keeper.become_child
      announce = Socket.for_fd(announce.fileno).tap { announce.autoclose = false } unless announce.is_a?(Socket)
      announce.send('here', 0)
      exit!(0) unless announce.recv(16) == 'go'
      @control.close
      settle_in(mark, output, errors)
      [place(listener), Channel.new(announce)]
    end

    def settle_in(mark, output, errors)
      { STDOUT => output, STDERR => errors }.each do |stream, given|
        stream.reopen(given)
        stream.sync = true
        given.close
      end
      Keeper.watch(STDOUT)
      ENV['HATCHERY_WORKER'] = mark
      # What was drawn before is the same in all workers.
      Random.srand
    end

    # At 3, where programs look for it, unless the interpreter itself took that number before any of this ran.
    def place(listener)
      ENV['LISTEN_PID'] = $$.to_s
      unless @reserved
        listener.autoclose = false
        return UNIXServer.for_fd(listener.fileno)
      end
      @reserved.reopen(listener)
      listener.close
      ENV['LISTEN_FDS'] = '1'
      UNIXServer.for_fd(LISTENER).tap { |io| io.close_on_exec = true }
    end
  end
end
