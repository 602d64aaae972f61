# From the command line to a worker that serves.
module HatcheryLoader
  LISTENER = 3
  TEXT = 4
  # Threads where nobody says how many.
  MANY_THREADS = 16

  class << self
    def main(arguments)
      _, entry, *options = arguments.dup
      # What is left there would be taken for the app's own.
      arguments.clear
      threads = threads_of(options)
      Keeper.remember
      put_the_text_away
      @channel = Channel.new(inherited(CONTROL))
      look_ordinary
      options.include?('--preload') ? preload(entry, threads) : serve_directly(entry, threads)
    rescue Failure => failure
      say(failure)
      # What an app does at its exit is for apps that have run.
      exit!(1)
    end

    private

    def threads_of(options)
      number = options.map { |option| option[/\A--threads=(\d+)\z/, 1] }.compact.last.to_i
      number.zero? ? MANY_THREADS : number
    end

    # Its path stands in every backtrace, and pages that show exceptions read what stands there: anything else at this
    # number might never end.
    def put_the_text_away
      text = IO.for_fd(TEXT, autoclose: false)
      text.reopen(File::NULL)
      text.close_on_exec = true
    end

    # A descriptor that was given at the start; what the app executes doesn't get it.
    def inherited(number)
      IO.for_fd(number).tap { |io| io.close_on_exec = true }
    end

    # An app may look at the program's name: Sinatra starts a server of its own where that is its file's. What is
    # shown of the process stays what the spawner made it.
    def look_ordinary
      shown = File.read('/proc/self/cmdline').chomp("\0").tr("\0", ' ')
      $0 = 'rackup'
      Process.setproctitle(shown)
      STDOUT.sync = true
      STDERR.sync = true
    end

    def serve_directly(entry, threads)
      # Before the app runs: it might take the number's close-on-exec for granted.
      listener = inherited(LISTENER)
      app = Load.app(entry)
      require 'socket'
      listener.autoclose = false
      serve(app, UNIXServer.for_fd(LISTENER), threads, false)
    end

    def preload(entry, threads)
      Hatchery.instance_variable_set(:@preloading, true)
      app = Load.app(entry)
      why = Preloader.unfit
      if why
        @channel.tell('unfit', why)
        exit(0)
      end
      require 'socket'
      require 'stringio'
      Keeper.prepare
      Preloader.settle
      @channel.tell('ready')
      listener, @channel = Preloader.new(@channel).run
      serve(app, listener, threads, true)
    end

    def serve(app, listener, threads, forked)
      require 'stringio'
      run_hooks(:on_start, forked)
      server = Server.new(app, listener, threads)
      @channel.close
      server.run
      stop_hooks
      exit(0)
    end

    def stop_hooks
      run_hooks(:on_stop)
    rescue Failure => failure
      # It leaves all the same.
      print_error(failure.cause_of_it)
    end

    def say(failure)
      print_error(failure.cause_of_it) if failure.cause_of_it
      STDERR.puts("hatchery: #{failure.problem}: #{failure.remedy}")
      @channel.tell_failure(failure)
    end
  end
end

HatcheryLoader.main(ARGV)
