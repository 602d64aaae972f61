# The worker: waits for connections and for requests on all of them at once, so that an idle one blocks nobody.
module HatcheryLoader
  class Server
    NO_DESCRIPTORS = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM].freeze

    attr_reader :app, :modern, :constants, :input

    def initialize(app, listener, threads)
      @app, @listener, @threads = app, listener, threads
      # A release tells its rack's rules: from 3 on the input needn't be rewound.
      @modern = Rack.release.to_i >= 3
      @input = @modern ? Input : RewindableInput
      @constants = @modern ? {} : {
        'rack.version' => [1, 3], 'rack.multithread' => threads > 1, 'rack.multiprocess' => true,
        'rack.run_once' => false
      }.freeze
      @wake, @waker = IO.pipe
      @watched = [@listener, @wake]
      @parked = {}.compare_by_identity
      @stopping = false
    end

    # Returns once it has been told to stop and what had been begun is answered.
    def run
      %w[TERM INT].each { |signal| Signal.trap(signal) { stop } }
      @threads > 1 ? with_threads : alone
    end

    private

    def stop
      @stopping = true
      wake
    end

    # Called from a signal's handler and from other threads.
    def wake
      @waker.write_nonblock('.', exception: false)
    end

    def alone
      until @stopping
        wait.each do |connection|
          break if @stopping
          fate = attend(connection)
          unpark(connection) unless fate == :keep
          connection.close if fate == :close
        end
      end
    end

    def with_threads
      @work = Queue.new
      @returned = Queue.new
      crew = Array.new(@threads) { Thread.new { work } }
      until @stopping
        wait.each do |connection|
          unpark(connection)
          @work << connection
        end
        park(@returned.pop) until @returned.empty?
      end
      # What has been begun is answered, nothing else is begun.
      @work.clear
      @work.close
      crew.each(&:join)
    end

    def work
      while (connection = @work.pop)
        fate = attend(connection)
        connection.close if fate == :close
        next unless fate == :keep
        @returned << connection
        wake
      end
    end

    # The connections on which something has come, new ones among them.
    def wait
      ready, = IO.select(@watched)
      ready.map { |io| @parked[io] || (io.equal?(@listener) ? accept : drain) }.compact
    end

    def accept
      io = @listener.accept_nonblock(exception: false)
      io == :wait_readable ? nil : park(Connection.new(io))
    rescue Errno::ECONNABORTED
      nil
    rescue *NO_DESCRIPTORS => error
      warn "hatchery: no connection can be taken: #{error.message}"
      # What is under way has to end first; there is no event that would tell.
      IO.select([@wake], nil, nil, 0.1)
      nil
    end

    def drain
      @wake.read_nonblock(4096, exception: false)
      nil
    end

    def park(connection)
      @parked[connection.io] = connection
      @watched << connection.io
      connection
    end

    def unpark(connection)
      @parked.delete(connection.io)
      @watched.delete_if { |io| io.equal?(connection.io) }
    end

    # Answers all requests that are there as a whole.
    def attend(connection)
      return :close unless connection.fill
      while (content = connection.block)
        fate = Exchange.new(self, connection).run(content)
        return fate unless fate == :keep
        return :close if @stopping
      end
      :keep
    rescue BadRequest => error
      warn "hatchery: a request is not understood: #{error.message}"
      Exchange.refuse(connection)
    end
  end
end
